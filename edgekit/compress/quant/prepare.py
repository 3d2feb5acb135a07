"""Bring a float graph into the form that is quantized: folded, typed, named, with integer means.

Why the mean is rewritten: exporters write a spatial average as ReduceMean, for which onnxruntime
has no integer kernel; GlobalAveragePool is the same sum and has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.compress.quant.graph import initializers
from edgekit.core.errors import InputError, require_module

if TYPE_CHECKING:
    import onnx

_ERRORS_ONLY = 3


def prepare(source: Path, scratch: Path) -> onnx.ModelProto:
    """Read a float ONNX file and return the graph to quantize.

    Constants are folded, batch normalisation is merged into the layer before it, every tensor has
    a type, every node a name of its own, and spatial means are GlobalAveragePool.

    Args:
        source: ONNX file, already checked.
        scratch: Folder for temporary files.

    Raises:
        InputError: onnxruntime refuses the graph, or it is quantized already.
    """
    import onnx

    model = onnx.load(source, load_external_data=False)
    _refuse_quantized(model, source)
    _name_nodes(model.graph)
    model = onnx.shape_inference.infer_shapes(_folded(model, source.name, scratch))
    del model.metadata_props[:]
    _mean_to_pool(model)
    _name_nodes(model.graph)
    _drop_unused_domains(model)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    return model


def _folded(model: onnx.ModelProto, name: str, scratch: Path) -> onnx.ModelProto:
    """Let onnxruntime fold constants and batch normalisation, in standard operators only."""
    import onnx

    ort = require_module("onnxruntime", "onnx")
    target = scratch / "folded.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.optimized_model_filepath = str(target)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            # A constant that two layers share would get one scale for both.
            disabled_optimizers=["ConstantSharing"],
        )
    # onnxruntime raises a dozen classes of its own that share no base but Exception.
    except Exception as error:
        raise InputError(
            f"preparing {name} for quantization",
            found=str(error).splitlines()[0],
            expected="a float32 graph that onnxruntime can run",
        ) from error
    return onnx.load(target)


def _refuse_quantized(model: onnx.ModelProto, source: Path) -> None:
    integer_ops = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv"}
    found = sorted({node.op_type for node in model.graph.node} & integer_ops)
    if found:
        raise InputError(
            f"quantizing {source.name}",
            found=f"a graph with {', '.join(found)}",
            expected="a float32 model",
            hint="It is quantized already: leave out this stage",
        )


def _mean_to_pool(model: onnx.ModelProto) -> None:
    from onnx import helper

    ranks = _ranks(model)
    for node in list(model.graph.node):
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            continue
        if not _is_spatial(node, model):
            continue
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
        name = node.name.removesuffix("/ReduceMean")
        new = [
            helper.make_node(
                "GlobalAveragePool", [node.input[0]], [pooled], name=f"{name}/GlobalAveragePool"
            )
        ]
        if not keeps:
            new.append(
                helper.make_node(
                    "Flatten", [pooled], [node.output[0]], name=f"{name}/Flatten", axis=1
                )
            )
        place = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        for offset, replacement in enumerate(new):
            model.graph.node.insert(place + offset, replacement)
    _drop_unused_constants(model)


def _is_spatial(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    from onnx import numpy_helper

    constants = initializers(model)
    if len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
    else:
        axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), [])
    return sorted(axis % 4 for axis in axes) == [2, 3]


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in infos
        if info.type.tensor_type.HasField("shape")
    }


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken: set[str] = set()
    for node in graph.node:
        base = name = node.name or node.op_type
        count = 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name


def _drop_unused_constants(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    used |= {info.name for info in model.graph.output}
    for tensor in list(model.graph.initializer):
        if tensor.name not in used:
            model.graph.initializer.remove(tensor)


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    used = {node.domain for node in model.graph.node} | {""}
    for entry in list(model.opset_import):
        if entry.domain not in used:
            model.opset_import.remove(entry)
