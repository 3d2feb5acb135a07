"""Exported graphs made reproducible: no local paths, no tool versions, layers by module name.

Why: the exporters write stack traces with the paths of the machine into every node, so that equal
models give unequal bytes and a bundle tells where it was built; and they number nodes, where a
report about a layer wants the name the layer has in the model.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.core.model import TensorSpec
from edgekit.zoo.exporters.signature import rename_batch, set_shapes

if TYPE_CHECKING:
    import onnx

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that are a layer of their own and carry its module's name alone."""
_SCOPES = "pkg.torch.onnx.name_scopes"


def tidy(
    model: onnx.ModelProto,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    scopes: Mapping[str, str],
) -> None:
    """Clean a graph in place.

    Args:
        model: Exported graph whose inputs and outputs are named as in the signature.
        inputs: Signature; open sizes are called `batch`.
        outputs: Signature.
        scopes: Dotted module name by node name.
    """
    model.producer_name, model.producer_version = "edgekit", ""
    model.domain, model.doc_string, model.model_version = "", "", 0
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "model", ""
    clear_notes(graph)
    rename_batch(graph)
    set_shapes(graph.input, inputs)
    set_shapes(graph.output, outputs)
    constants = {tensor.name for tensor in graph.initializer}
    shown = [info for info in graph.value_info if info.name not in constants]
    del graph.value_info[:]
    graph.value_info.extend(shown)
    name_nodes(graph, scopes)
    _name_constants(graph)


def scope_of(node: onnx.NodeProto) -> str:
    """Return the dotted name of the module in which torch's exporter saw a node, or nothing."""
    for note in node.metadata_props:
        if note.key == _SCOPES:
            scopes = ast.literal_eval(note.value)
            return str(scopes[-2]) if len(scopes) > 1 else ""
    return ""


def name_nodes(graph: onnx.GraphProto, scopes: Mapping[str, str]) -> None:
    """Name every node after its module: `layer1.conv`, or `layer1/Add` for what it computes.

    A weight's own name goes before the scope, because a folded convolution carries the scope of
    the normalisation that was folded into it.
    """
    constants = {tensor.name for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        scope = scopes.get(node.name, "")
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        if node.op_type in WEIGHTED_OPS and len(node.input) > 1:
            weight = node.input[1]
            if weight in constants and weight.endswith(".weight"):
                name = weight.removesuffix(".weight")
            elif weight in constants and scope:
                name = scope
        node.name = _unique(name, taken)


def module_of(node: onnx.NodeProto) -> str:
    """Return the dotted module name that a tidied node was computed in."""
    if node.op_type in WEIGHTED_OPS and "/" not in node.name:
        return node.name
    module, slash, _ = node.name.rpartition("/")
    return module if slash else ""


def clear_notes(graph: onnx.GraphProto) -> None:
    """Drop the notes of exporters: stack traces with local paths, module types, rule names."""
    del graph.metadata_props[:]
    for item in _annotated(graph):
        del item.metadata_props[:]
        item.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.HasField("g"):
                attribute.g.doc_string = ""
                clear_notes(attribute.g)


def _name_constants(graph: onnx.GraphProto) -> None:
    # Tracing numbers folded weights (`onnx::Conv_12`); they are named after their layer instead.
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return
    taken = {tensor.name for tensor in graph.initializer}
    renamed: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in WEIGHTED_OPS:
            continue
        for position, part in ((1, "weight"), (2, "bias")):
            old = node.input[position] if position < len(node.input) else ""
            if "::" in old and old in taken and old not in renamed:
                renamed[old] = _unique(f"{node.name}.{part}", taken)
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def _annotated(
    graph: onnx.GraphProto,
) -> Iterator[onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto]:
    yield from graph.node
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
    yield from graph.initializer
