"""Move all levels of a network to the dtype its kernels work on, exactly.

A level q of uint8 and the level q - 128 of int8 stand for the same real number when the zero point
moves as well, and every integer operator takes levels minus zero points only. So one int8 model
serves processors whose products want unsigned activations and those whose want signed ones; every
result is the same up to the 128.

What others see keeps its dtype: the network's inputs and outputs, and what a `Region` reads and
writes. Such a tensor NAME gets a twin NAME_int8 (or NAME_uint8) for the operators inside, and a
`Lookup` that adds or subtracts 128 stands between the two. `is_shift` recognises it: for packing
and unpacking it is one exclusive or with 0x80.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from edgekit.arithmetic.affine import INT8, UINT8, Levels
from edgekit.compiler.graph.operators import (
    AddLevels,
    Convolution,
    Dense,
    Elementwise,
    GlobalAverage,
    Lookup,
    Network,
    Operator,
    Pool,
    Region,
    Rescale,
    ToFloat,
    ToLevels,
)
from edgekit.compiler.graph.tensors import Tensor

LevelDtype = Literal["uint8", "int8"]
_LEVELS: dict[str, Levels] = {"uint8": UINT8, "int8": INT8}


def to_levels_of(network: Network, dtype: LevelDtype) -> Network:
    """Return the network with all its inner levels as `dtype`.

    Args:
        network: From the frontend; levels may be of both types.
        dtype: What the kernels work on.

    Returns:
        A network of the same inputs and outputs that computes the same.
    """
    return _Rebias(network, dtype).run()


def is_shift(operator: Operator, network: Network) -> bool:
    """Return whether an operator of a network only turns uint8 levels into int8 ones or back."""
    if not isinstance(operator, Lookup):
        return False
    dtype = operator.table.dtype.name
    is_between = network.tensors[operator.reads[0]].dtype != dtype
    return is_between and bool(np.array_equal(operator.table, _shift_table(dtype)))


class _Rebias:
    """One network on its way to another dtype."""

    def __init__(self, network: Network, dtype: LevelDtype) -> None:
        self._network = network
        self._dtype = dtype
        self._moved = {
            tensor.name
            for tensor in network.tensors.values()
            if tensor.grid is not None and tensor.dtype != dtype
        }
        seen = {*network.inputs, *network.outputs}
        self._read_inside: set[str] = set()
        for operator in network.operators:
            if isinstance(operator, Region):
                seen.update(operator.reads, operator.writes)
            else:
                self._read_inside.update(operator.reads)
        self._kept = self._moved & seen

    def run(self) -> Network:
        operators = [lookup for name in self._network.inputs for lookup in self._enter(name)]
        for operator in self._network.operators:
            if isinstance(operator, Region):
                operators.append(operator)
                operators += [lookup for name in operator.writes for lookup in self._enter(name)]
            else:
                operators.append(self._shifted(operator))
                operators += [lookup for name in operator.writes for lookup in self._leave(name)]
        read_or_written = {name for item in operators for name in (*item.reads, *item.writes)}
        named = {tensor.name: tensor for tensor in self._tensors()}
        wanted = read_or_written | {*self._network.inputs, *self._network.outputs}
        return msgspec.structs.replace(
            self._network,
            tensors={name: tensor for name, tensor in named.items() if name in wanted},
            operators=tuple(operators),
        )

    def _tensors(self) -> Iterator[Tensor]:
        for tensor in self._network.tensors.values():
            if tensor.name not in self._moved or tensor.name in self._kept:
                yield tensor
            if tensor.name in self._moved:
                assert tensor.grid is not None
                zero_point = tensor.grid.zero_point + self._delta(tensor.name)
                yield msgspec.structs.replace(
                    tensor,
                    name=self._inner(tensor.name),
                    dtype=self._dtype,
                    grid=msgspec.structs.replace(tensor.grid, zero_point=zero_point),
                )

    def _inner(self, name: str) -> str:
        """Return the tensor's name among operators other than regions."""
        if name not in self._kept:
            return name
        twin = f"{name}_{self._dtype}"
        while twin in self._network.tensors:
            twin = f"{twin}_"
        return twin

    def _delta(self, name: str) -> int:
        if name not in self._moved:
            return 0
        return _LEVELS[self._dtype].low - _LEVELS[self._network.tensors[name].dtype].low

    def _enter(self, name: str) -> Iterator[Operator]:
        if name in self._kept & self._read_inside:
            yield _shift(name, self._inner(name), self._dtype)

    def _leave(self, name: str) -> Iterator[Operator]:
        if name in self._kept:
            yield _shift(self._inner(name), name, self._network.tensors[name].dtype)

    def _shifted(self, operator: Operator) -> Operator:
        read = [self._delta(name) for name in operator.reads]
        written = self._delta(operator.writes[0])
        renamed = msgspec.structs.replace(
            operator,
            reads=tuple(self._inner(name) for name in operator.reads),
            writes=tuple(self._inner(name) for name in operator.writes),
        )
        return _with_constants(renamed, read, written)


def _with_constants(operator: Operator, read: list[int], written: int) -> Operator:
    replace = msgspec.structs.replace
    if isinstance(operator, Convolution | Dense):
        return replace(
            operator,
            input_zero_point=operator.input_zero_point + read[0],
            result=_result(operator.result, written),
            # The first operand is the product's own result, levels of the result's dtype.
            add=_added(operator.add, (written, read[-1]), written),
        )
    if isinstance(operator, Pool | GlobalAverage | Rescale):
        return replace(
            operator,
            input_zero_point=operator.input_zero_point + read[0],
            result=_result(operator.result, written),
        )
    if isinstance(operator, Elementwise):
        first, second = operator.zero_points
        return replace(
            operator,
            zero_points=(first + read[0], second + read[1]),
            result=_result(operator.result, written),
            add=_added(operator.add, (read[0], read[1]), written),
        )
    if isinstance(operator, Lookup) and written:
        return replace(operator, table=_shift_levels(operator.table))
    return operator


def _result(result: ToLevels | ToFloat | None, delta: int) -> ToLevels | ToFloat | None:
    if not isinstance(result, ToLevels):
        return result
    return msgspec.structs.replace(
        result,
        zero_point=result.zero_point + delta,
        low=result.low + delta,
        high=result.high + delta,
    )


def _added(add: AddLevels | None, read: tuple[int, int], written: int) -> AddLevels | None:
    if add is None:
        return None
    return msgspec.structs.replace(
        add,
        first_zero_point=add.first_zero_point + read[0],
        second_zero_point=add.second_zero_point + read[1],
        zero_point=add.zero_point + written,
        low=add.low + written,
        high=add.high + written,
    )


def _shift(source: str, sink: str, dtype: str) -> Lookup:
    name = f"{source} to {dtype}"
    return Lookup(name=name, nodes=(), reads=(source,), writes=(sink,), table=_shift_table(dtype))


def _shift_table(dtype: str) -> np.ndarray:
    """Return the table to `dtype` from the other one: the same order, from its lowest level on."""
    levels = _LEVELS[dtype]
    return np.arange(levels.low, levels.high + 1).astype(dtype)


def _shift_levels(table: np.ndarray) -> np.ndarray:
    other = "int8" if table.dtype == np.uint8 else "uint8"
    return (table.astype(np.int16) + _LEVELS[other].low - _LEVELS[table.dtype.name].low).astype(
        other
    )
