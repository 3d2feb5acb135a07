"""Honest int8: which compute operators of a graph take integers, and which should and don't.

An engine may win a race with an int8 model only when it runs it as integers. Both kinds of graph
edgekit looks into, Relax before legalisation and what onnxruntime really runs, are read as the
same short list of operators, and one rule counts them.

The rule. Compute operators are products (convolution, matrix product), arithmetic between
activations (add, multiply) and averages; work with constants, such as a bias, belongs to its
neighbour. A product or an addition that takes float tensors although all its operands were just
dequantized is an integer operator run as float. For arithmetic its result must be quantized again
as well, else the model itself asked for floats.

Averages are counted and never held against an engine: they are a thousandth of the work, stand
between two quantized operators whether anybody asked for an integer average or not, and
onnxruntime has none for `ReduceMean`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

if TYPE_CHECKING:
    import onnx

Kind = Literal["product", "arithmetic", "average", "dequantize", "quantize", "transparent", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ONNX_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MatMul", "Gemm"), "product"),
    **dict.fromkeys(("FusedConv", "FusedMatMul", "FusedGemm", "NhwcFusedConv"), "product"),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), "arithmetic"),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), "average"),
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), "average"),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), "arithmetic"),
    **dict.fromkeys(("Relu", "Clip", "Flatten", "Reshape", "Transpose", "Identity"), "transparent"),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "MaxPool", "ReorderInput"), "transparent"),
    "DequantizeLinear": "dequantize",
    "QuantizeLinear": "quantize",
}
# What onnxruntime replaces a dequantize - operator - quantize group by.
_ONNX_INTEGER = frozenset(
    {
        *("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QGemm", "ConvInteger"),
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"),
        *("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearReduceMean"),
        *("QLinearConcat", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere"),
    }
)


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Name one operator by what counts here.

    Args:
        name: For messages.
        kind: What it does.
        reads: Operands that are tensors; shapes and attributes are left out.
        writes: Results.
        is_integer: Whether it takes and gives integer tensors.
    """

    name: str
    kind: Kind
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    is_integer: bool = False


class OperatorCount(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the counts of one graph.

    Args:
        integer_ops: Compute operators on integers.
        float_ops: Compute operators on floats.
        float_as_quantized: Names of those on floats that the model means to be integer.
    """

    integer_ops: int
    float_ops: int
    float_as_quantized: tuple[str, ...]

    def disqualification(self) -> str | None:
        """Return why an int8 model run this way may not win a race, or None."""
        if not self.float_as_quantized:
            return None
        total = self.integer_ops + len(self.float_as_quantized)
        wrong = len(self.float_as_quantized)
        return f"runs int8 as float: {wrong} of {total} compute operators take float tensors"


def count_operators(operators: Sequence[Operator], constants: Iterable[str]) -> OperatorCount:
    """Count the compute operators of a graph.

    Args:
        operators: In topological order.
        constants: Names of tensors known before the run.

    Returns:
        The counts.
    """
    constant, dequantized = set(constants), set[str]()
    consumers: dict[str, list[Operator]] = {}
    for operator in operators:
        for read in operator.reads:
            consumers.setdefault(read, []).append(operator)
    integer = floating = 0
    wrong = []
    for operator in operators:
        varying = [read for read in operator.reads if read not in constant]
        if not varying:
            constant.update(operator.writes)
        moved = set(varying or operator.reads[:1])
        if operator.kind == "dequantize" or (
            operator.kind == "transparent" and moved <= dequantized
        ):
            dequantized.update(operator.writes)
        if not _is_compute(operator, varying):
            continue
        if operator.is_integer:
            integer += 1
            continue
        floating += 1
        if _is_meant_integer(operator, varying, dequantized, consumers):
            wrong.append(operator.name)
    return OperatorCount(integer_ops=integer, float_ops=floating, float_as_quantized=tuple(wrong))


def onnx_operators(model: onnx.ModelProto) -> tuple[list[Operator], set[str]]:
    """Read a graph as written by onnxruntime or by a user.

    Returns:
        The operators, and the names of the constants.
    """
    operators = []
    for index, node in enumerate(model.graph.node):
        is_integer = node.op_type in _ONNX_INTEGER
        reads = [name for name in node.input if name]
        kind = _ONNX_KINDS.get(node.op_type, "product" if is_integer else "other")
        operators.append(
            Operator(
                name=node.name or f"{node.op_type}_{index}",
                kind=kind,
                reads=tuple(reads[:1] if node.op_type == "ReduceMean" else reads),
                writes=tuple(node.output),
                is_integer=is_integer,
            )
        )
    return operators, {tensor.name for tensor in model.graph.initializer}


def _is_compute(operator: Operator, varying: Sequence[str]) -> bool:
    if operator.kind == "arithmetic":
        # Integer forms carry scales and zero points as constants beside their two operands.
        return len(varying) > 1
    return operator.kind in ("product", "average") and bool(varying)


def _is_meant_integer(
    operator: Operator,
    varying: Sequence[str],
    dequantized: set[str],
    consumers: dict[str, list[Operator]],
) -> bool:
    if operator.kind == "product":
        # Its weights are constants: they too must come from integers. A bias may be either.
        return set(varying) <= dequantized and set(operator.reads[:2]) <= dequantized
    return (
        operator.kind == "arithmetic"
        and set(varying) <= dequantized
        and _reaches_quantize(operator, consumers)
    )


def _reaches_quantize(operator: Operator, consumers: dict[str, list[Operator]]) -> bool:
    following = [item for name in operator.writes for item in consumers.get(name, ())]
    return bool(following) and all(
        item.kind == "quantize"
        or (item.kind == "transparent" and _reaches_quantize(item, consumers))
        for item in following
    )
