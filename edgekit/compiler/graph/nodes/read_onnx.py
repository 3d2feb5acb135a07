"""Read an ONNX model into a graph of nodes, and write nodes back as an ONNX model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.onnx_tensors import DTYPES
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_IR_VERSION = 10
_OPSET = 18  # of models that use none of ONNX's own operators


def read_onnx(model: onnx.ModelProto) -> NodeGraph:
    """Read a model's graph.

    A node without a name gets one made of its type and place; nodes of one name get numbers.

    Args:
        model: Checked, with fixed shapes of inputs and outputs.

    Returns:
        The graph; types of inner tensors as far as the model states them.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    tensors = {}
    for info in (*graph.value_info, *graph.output, *graph.input):
        tensor = fixed_tensor(info)
        if tensor is not None and info.name not in constants:
            tensors[info.name] = tensor
    _check_inputs(graph, constants, tensors)
    read = NodeGraph(
        steps=read_nodes(graph),
        tensors=tensors,
        constants=constants,
        inputs=tuple(info.name for info in graph.input if info.name not in constants),
        outputs=tuple(info.name for info in graph.output),
        opset=_opset(model),
    )
    read.sort()
    return read


def _check_inputs(
    graph: onnx.GraphProto, constants: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    for info in graph.input:
        if info.name not in constants and info.name not in tensors:
            raise InputError(
                f"reading input '{info.name}'",
                found=info.type.WhichOneof("value") or "no type",
                expected="a tensor of fixed sizes",
            )


def fixed_tensor(info: onnx.ValueInfoProto) -> Tensor | None:
    """Return what a declaration says about a tensor, None when a part of it is open."""
    return tensor_of(info.name, info.type)


def tensor_of(name: str, kind: onnx.TypeProto) -> Tensor | None:
    """Return a tensor of an ONNX type, None when a part of it is open.

    Raises:
        InputError: The tensor holds nothing, or is of a type that is not handled.
    """
    found = kind.tensor_type
    if not found.HasField("shape") or not found.elem_type:
        return None
    if not all(dim.HasField("dim_value") for dim in found.shape.dim):
        return None
    if found.elem_type not in DTYPES:
        raise InputError(
            f"reading tensor '{name}'",
            found=f"element type {found.elem_type}",
            expected=", ".join(sorted(DTYPES.values())),
        )
    shape = tuple(int(dim.dim_value) for dim in found.shape.dim)
    return Tensor(name=name, shape=shape, dtype=DTYPES[found.elem_type])


def value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    """Return the declaration of a tensor."""
    from onnx import helper

    return helper.make_tensor_value_info(tensor.name, element_type(tensor.dtype), tensor.shape)


def element_type(dtype: str) -> int:
    """Return ONNX's number of a type by numpy's word."""
    return next(number for number, word in DTYPES.items() if word == dtype)


def node_proto(node: Node) -> onnx.NodeProto:
    """Return a node as ONNX holds it."""
    from onnx import NodeProto

    proto = NodeProto(
        op_type=node.kind, domain=node.domain, name=node.name, input=node.reads, output=node.writes
    )
    proto.attribute.extend(node.attributes.values())
    return proto


def nodes_as_model(
    nodes: Sequence[Node],
    *,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    constants: Mapping[str, NDArray[Any]],
    opset: int,
) -> onnx.ModelProto:
    """Return nodes as a model of their own.

    Args:
        nodes: In an order in which they can run.
        inputs: Tensors they read from outside.
        outputs: Those of their results that are wanted.
        constants: Values of all constants, of which those that are read are taken.
        opset: Version of ONNX's operators.
    """
    from onnx import helper, numpy_helper

    wanted = dict.fromkeys(name for node in nodes for name in (*node.reads, *node.captures))
    initializers = [
        numpy_helper.from_array(constants[name], name) for name in wanted if name in constants
    ]
    graph = helper.make_graph(
        [node_proto(node) for node in nodes],
        "region",
        [value_info(tensor) for tensor in inputs],
        [value_info(tensor) for tensor in outputs],
        initializers,
    )
    domains = {"": opset} | {node.domain: 1 for node in nodes if node.domain}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _opset(model: onnx.ModelProto) -> int:
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    return versions[0] if versions else _OPSET


def read_nodes(graph: onnx.GraphProto) -> list[Node]:
    """Return the nodes of a graph, each with a name of its own."""
    taken: set[str] = set()
    nodes = []
    for index, proto in enumerate(graph.node):
        base = proto.name or f"{proto.op_type}_{index}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        nodes.append(
            Node(
                name=name,
                kind=proto.op_type,
                domain="" if proto.domain == "ai.onnx" else proto.domain,
                reads=tuple(proto.input),
                writes=tuple(proto.output),
                nodes=(name,),
                attributes={item.name: item for item in proto.attribute},
                captures=tuple(_captured(proto)),
            )
        )
    return nodes


def _captured(proto: onnx.NodeProto) -> Iterable[str]:
    """Return the names that graphs inside a node read from around it."""
    inner = [item.g for item in proto.attribute if item.HasField("g")]
    inner += [graph for item in proto.attribute for graph in item.graphs]
    found: dict[str, None] = {}
    for graph in inner:
        known = {info.name for info in graph.input} | {item.name for item in graph.initializer}
        for node in graph.node:
            found |= dict.fromkeys(
                name for name in (*node.input, *_captured(node)) if name and name not in known
            )
            known.update(node.output)
        found |= dict.fromkeys(info.name for info in graph.output if info.name not in known)
    return found
