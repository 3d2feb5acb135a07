"""Honest int8 of a network: which of the model's compute operators its kernels do in integers.

The ONNX model says what is meant to be integer, the network what is: every node is judged by the
operator that stands for it, so a convolution that carries a residual still counts as two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.accounting import OperatorCount, count_operators, onnx_operators
from edgekit.compiler.graph.operators import Network, Operator, Region

if TYPE_CHECKING:
    import onnx

_LEVEL_DTYPES = frozenset({"uint8", "int8"})


def count_network(network: Network, model: onnx.ModelProto) -> OperatorCount:
    """Count the compute operators of a model by how a network runs them.

    Args:
        network: Read from the model.
        model: What the user gave; nodes the network does without are not counted.

    Returns:
        The counts; names are those of ONNX nodes.
    """
    owners = {node: operator for operator in network.operators for node in operator.nodes}
    operators, constants = onnx_operators(model)
    judged = []
    for operator in operators:
        owner = owners.get(operator.name)
        is_gone = owner is None and operator.kind in ("product", "arithmetic", "average")
        judged.append(
            msgspec.structs.replace(
                operator,
                kind="other" if is_gone else operator.kind,
                is_integer=owner is not None and takes_levels(owner, network),
            )
        )
    return count_operators(judged, constants)


def region_operators(network: Network) -> tuple[str, ...]:
    """Return the ONNX types of all nodes that TVM compiles by its own schedules, sorted."""
    regions = (item for item in network.operators if isinstance(item, Region))
    return tuple(sorted(kind for region in regions for kind in region.operators))


def takes_levels(operator: Operator, network: Network) -> bool:
    """Return whether a kernel of ours does an operator on levels.

    Args:
        operator: Of the network.
        network: For the dtypes of its tensors.
    """
    if isinstance(operator, Region) or not operator.reads:
        return False
    return all(network.tensors[name].dtype in _LEVEL_DTYPES for name in operator.reads)
