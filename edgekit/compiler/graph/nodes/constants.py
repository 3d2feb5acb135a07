"""Fold what is known before the run, and fix every shape, in one walk over the graph.

Exporters compute shapes, pads and bounds by small graphs of constants. Each node whose operands
are all known is evaluated by ONNX's own reference; `Shape` of a tensor of known shape is known as
well. Dequantized constants stay as they are: the integers are what a quantized operator wants.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph, Step
from edgekit.compiler.graph.nodes.read_onnx import (
    element_type,
    node_proto,
    nodes_as_model,
    read_nodes,
    tensor_of,
    value_info,
)
from edgekit.compiler.graph.tensors import Tensor
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]

MAX_FOLDED_BYTES = 256 * 2**20
"""Larger results of constants are computed in the run: a few bytes can ask for gigabytes."""

# Each run gives other values, or results that are no tensors.
_NEVER_FOLDED = frozenset(
    {
        *(
            "QuantizeLinear",
            "DequantizeLinear",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "Bernoulli",
        ),
        *("RandomUniformLike", "Multinomial", "If", "Loop", "Scan", "StringNormalizer"),
        *("SequenceConstruct", "SequenceEmpty", "Optional"),
    }
)
# Operands that decide shapes are short lists; weights need not be copied for the inference.
_MAX_SHAPE_VALUES = 4096


def settle(graph: NodeGraph) -> None:
    """Replace known nodes by constants and give every other tensor its shape and type.

    Args:
        graph: From `read_onnx`; changed in place.

    Raises:
        InputError: The size of a tensor is only known at run time, or it holds nothing.
    """
    waiting, settled = deque(graph.nodes()), list[Step]()
    while waiting:
        node = waiting.popleft()
        branch = _known_branch(graph, node)
        if branch is not None:
            waiting.extendleft(reversed(branch))
            continue
        known = _known_value(graph, node)
        if known is None:
            _infer(graph, node)
            known = _evaluated(graph, node)
        if known is None:
            settled.append(node)
            continue
        graph.constants |= known
        for name in known:
            graph.tensors.pop(name, None)
    graph.steps = settled
    graph.prune()


def fold_quantized(graph: NodeGraph) -> None:
    """Quantize constants: weights that a model keeps as floats before a QuantizeLinear."""
    _fold_more(graph, {"QuantizeLinear"})


def fold_dequantized(graph: NodeGraph) -> None:
    """Fold dequantized constants that no quantized operator has taken, and what they make known."""
    _fold_more(graph, {"QuantizeLinear", "DequantizeLinear"})


def _fold_more(graph: NodeGraph, kinds: set[str]) -> None:
    for node in graph.nodes():
        known = _evaluated(graph, node, kept=_NEVER_FOLDED - kinds)
        if known is not None:
            graph.constants |= known
            graph.replace([node], [])
    graph.prune()


def hand_out_constants(graph: NodeGraph) -> None:
    """Let an Identity make each output that is a constant, so that a step writes it."""
    for name in graph.outputs:
        if name in graph.constants:
            value = graph.constants.pop(name)
            source = graph.add_constant(f"{name}_value", value)
            graph.tensors[name] = Tensor(name=name, shape=value.shape, dtype=str(value.dtype))
            step = graph.new_name(f"{name}_constant")
            node = Node(name=step, kind="Identity", reads=(source,), writes=(name,), nodes=(step,))
            graph.append(node)


def evaluate_node(
    node: Node,
    values: Mapping[str, Array],
    *,
    constants: Mapping[str, Array],
    outputs: Sequence[Tensor],
    opset: int,
) -> dict[str, Array]:
    """Compute one node by ONNX's reference.

    Args:
        node: The node.
        values: Its operands that are given.
        constants: Its operands that are constants.
        outputs: Its results that are wanted.
        opset: Version of ONNX's operators.

    Returns:
        Results by name.
    """
    from onnx.reference import ReferenceEvaluator

    inputs = [
        Tensor(name=name, shape=value.shape, dtype=str(value.dtype))
        for name, value in values.items()
    ]
    model = nodes_as_model([node], inputs=inputs, outputs=outputs, constants=constants, opset=opset)
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(None, dict(values))
    named = zip((tensor.name for tensor in outputs), results, strict=True)
    return {name: np.asarray(value) for name, value in named}


def _known_branch(graph: NodeGraph, node: Node) -> list[Node] | None:
    """Return the nodes of an If whose condition is known, in its place."""
    condition = graph.value(node.reads[0]) if node.kind == "If" and not node.domain else None
    if condition is None:
        return None
    from onnx import numpy_helper

    branch = node.attributes["then_branch" if condition.all() else "else_branch"].g
    for tensor in branch.initializer:
        graph.constants[tensor.name] = numpy_helper.to_array(tensor)
    inner = [
        msgspec.structs.replace(item, name=graph.new_name(f"{node.name}_{item.name}"))
        for item in read_nodes(branch)
    ]
    results = [
        Node(
            name=graph.new_name(f"{node.name}_{info.name}"),
            kind="Identity",
            reads=(info.name,),
            writes=(name,),
            nodes=node.nodes,
        )
        for info, name in zip(branch.output, node.writes, strict=True)
    ]
    return [*inner, *results]


def _known_value(graph: NodeGraph, node: Node) -> dict[str, Array] | None:
    if node.domain or node.kind not in ("Shape", "Size"):
        return None
    read = node.reads[0]
    if read not in graph.constants and read not in graph.tensors:
        return None
    shape = np.asarray(graph.shape(read), np.int64)
    if node.kind == "Size":
        return {node.writes[0]: np.asarray(shape.prod(), np.int64)}
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    return {node.writes[0]: shape[start:end]}


def _evaluated(
    graph: NodeGraph, node: Node, kept: frozenset[str] = _NEVER_FOLDED
) -> dict[str, Array] | None:
    if node.kind in kept or node.domain or node.captures:
        return None
    if not all(name in graph.constants for name in node.reads if name):
        return None
    size = sum(4 * graph.tensors[name].size for name in node.writes if name)
    if size > MAX_FOLDED_BYTES:
        return None
    if node.kind in ("QuantizeLinear", "DequantizeLinear") and not node.integer("block_size", 0):
        return {node.writes[0]: _requantized(graph, node)}
    outputs = [graph.tensors[name] for name in node.writes if name]
    try:
        return evaluate_node(
            node, {}, constants=graph.constants, outputs=outputs, opset=graph.opset
        )
    # The reference raises whatever numpy or its own code raises on what it does not implement.
    except Exception:
        return None


def _requantized(graph: NodeGraph, node: Node) -> Array:
    """Quantize or dequantize a constant; ONNX's reference has no form for opsets below 19."""
    values, scale = (graph.constants[name] for name in node.reads[:2])
    dtype = graph.dtype(node.writes[0]) if node.kind == "QuantizeLinear" else values.dtype
    zero_point = graph.constants[node.reads[2]] if node.operand(2) else np.zeros(1, dtype)
    spread = [1] * values.ndim
    if scale.size > 1:
        spread[node.integer("axis", 1)] = -1
    scale = scale.reshape(spread)
    zeros = np.broadcast_to(zero_point.ravel(), (scale.size,)).astype(np.int64).reshape(spread)
    if node.kind == "DequantizeLinear":
        return (values.astype(np.int64) - zeros).astype(scale.dtype) * scale
    with np.errstate(over="ignore"):
        steps = np.rint(values / scale).astype(np.float64) + zeros
    limits = np.iinfo(dtype)
    return steps.clip(limits.min, limits.max).astype(dtype)


def _infer(graph: NodeGraph, node: Node) -> None:
    """Give the results of a node their shapes and types."""
    kinds = _inferred_types(graph, node)
    for name in node.writes:
        if not name:
            continue
        tensor = tensor_of(name, kinds[name]) if name in kinds else None
        tensor = tensor or graph.tensors.get(name)
        if tensor is None:
            raise InputError(
                f"fixing the shapes of operator '{node.name}' ({node.kind})",
                found=f"a result '{name}' whose size is only known at run time",
                expected="fixed sizes",
                hint="Export the model with fixed sizes, without operators such as NonZero",
            )
        graph.tensors[name] = _without_empty_windows(graph, node, tensor)


def _without_empty_windows(graph: NodeGraph, node: Node, pooled: Tensor) -> Tensor:
    """Drop windows that start behind a pool's image and its padding, in ceil mode.

    ONNX's inference drops them from opset 22 on only; the definition, and every runtime, always.
    """
    if node.kind not in ("AveragePool", "MaxPool") or not node.integer("ceil_mode", 0):
        return pooled
    sizes, rank = graph.shape(node.reads[0])[2:], len(pooled.shape) - 2
    strides = node.integers("strides", [1] * rank)
    begins = node.integers("pads", [0] * 2 * rank)[:rank]
    most = [
        (size + begin - 1) // stride + 1
        for size, begin, stride in zip(sizes, begins, strides, strict=True)
    ]
    spatial = tuple(map(min, pooled.shape[2:], most))
    return msgspec.structs.replace(pooled, shape=pooled.shape[:2] + spatial)


def _inferred_types(graph: NodeGraph, node: Node) -> dict[str, onnx.TypeProto]:
    import onnx
    from onnx import defs, helper, numpy_helper

    if node.captures or not defs.has(node.kind, graph.opset, node.domain):
        return {}
    schema = defs.get_schema(node.kind, graph.opset, node.domain)
    types, data = {}, {}
    for name in node.reads:
        if name in graph.constants:
            value = graph.constants[name]
            types[name] = helper.make_tensor_type_proto(element_type(str(value.dtype)), value.shape)
            if value.size <= _MAX_SHAPE_VALUES:
                data[name] = numpy_helper.from_array(value, name)
        elif name in graph.tensors:
            types[name] = value_info(graph.tensors[name]).type
    opsets = [helper.make_opsetid("", graph.opset)]
    try:
        return dict(
            onnx.shape_inference.infer_node_outputs(
                schema, node_proto(node), types, data, opset_imports=opsets
            )
        )
    except KeyError:
        return {}  # an operand that is no tensor
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        lines = str(error).splitlines() or ["no reason given"]
        raise InputError(
            f"fixing the shapes of operator '{node.name}' ({node.kind})", found=lines[0][:300]
        ) from error
