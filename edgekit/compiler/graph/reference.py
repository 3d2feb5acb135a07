"""Run a network in numpy: what every compiled library of it must yield.

Integer operators equal `edgekit.arithmetic` bit for bit, and so must every library. Float operators
are computed in float64 and rounded once, so a library differs from them by its own rounding only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.compiler.graph import reference_float, reference_integer
from edgekit.compiler.graph.operators import (
    Convolution,
    Dense,
    Elementwise,
    GlobalAverage,
    Network,
    Operator,
    Pool,
    Region,
    Rescale,
)
from edgekit.compiler.graph.reference_applied import Applied
from edgekit.compiler.graph.reference_region import run_region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def run_network(network: Network, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a network.

    Args:
        network: From the frontend, or rebiased.
        inputs: Arrays by input name, of the tensors' shapes and dtypes.

    Returns:
        Arrays by output name.

    Raises:
        ValueError: An input is missing or has another shape or dtype.
    """
    values = trace_network(network, inputs)
    return {name: values[name] for name in network.outputs}


def trace_network(network: Network, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a network and keep every tensor, to name the first operator that differs.

    Args:
        network: From the frontend, or rebiased.
        inputs: As for `run_network`.

    Returns:
        Arrays by tensor name, in the order in which they are made.

    Raises:
        ValueError: An input is missing or has another shape or dtype.
    """
    values: dict[str, Array] = {}
    for name in network.inputs:
        if name not in inputs:
            raise ValueError(f"input '{name}' is missing")
        values[name] = _as_declared(network, name, inputs[name])
    for operator in network.operators:
        results = run_operator(network, operator, [values[name] for name in operator.reads])
        for name, result in zip(operator.writes, results, strict=True):
            values[name] = _as_declared(network, name, result)
    return values


def run_operator(network: Network, operator: Operator, operands: Sequence[Array]) -> list[Array]:
    """Run one operator alone.

    Args:
        network: Whose tensors the operator reads and writes.
        operator: One of its operators.
        operands: Arrays of `operator.reads`.

    Returns:
        Arrays of `operator.writes`.
    """
    if isinstance(operator, Region):
        return run_region(operator, operands)
    applied = Applied(
        operator=operator,
        operands=operands,
        reads=[network.tensors[name] for name in operator.reads],
        written=network.tensors[operator.writes[0]],
    )
    family = reference_integer if is_integer(operator) else reference_float
    return [family.OPERATORS[type(operator)](applied)]


def is_integer(operator: Operator) -> bool:
    """Return whether an operator accumulates integers, of those that can do either."""
    if isinstance(operator, Convolution | Dense | Pool | GlobalAverage):
        return operator.result is not None
    if isinstance(operator, Elementwise):
        return operator.result is not None or operator.add is not None
    return isinstance(operator, Rescale)


def _as_declared(network: Network, name: str, value: Array) -> Array:
    tensor = network.tensors[name]
    if value.shape != tensor.shape or value.dtype != tensor.dtype:
        raise ValueError(
            f"tensor '{name}' is {value.dtype} {value.shape}, "
            f"declared as {tensor.dtype} {tensor.shape}"
        )
    return value
