"""Small ONNX models for the compiler's tests, built operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]
_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}


class GraphBuilder:
    """Append operators; each returns the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int) -> str:
        scale = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def op(self, kind: str, *inputs: str, **attributes: int | float | list[int]) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int = 3, *, stride: int = 1, group: int = 1
    ) -> str:
        weight = self.weight(channels[1], channels[0] // group, kernel, kernel)
        bias = self.constant(self.rng.standard_normal(channels[1]).astype(np.float32) * 0.1)
        pads = [kernel // 2] * 4
        strides = [stride, stride]
        return self.op("Conv", x, weight, bias, pads=pads, strides=strides, group=group)

    def model(
        self,
        inputs: dict[str, Shape],
        outputs: dict[str, Shape],
        *,
        dtypes: dict[str, str] | None = None,
    ) -> onnx.ModelProto:
        kinds = dtypes or {}

        def infos(shapes: dict[str, Shape]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, _TYPES[kinds.get(name, "float32")], shape)
                for name, shape in shapes.items()
            ]

        graph = helper.make_graph(
            self.nodes, "graph", infos(inputs), infos(outputs), self.initializers
        )
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.checker.check_model(model)
        return model


def residual_cnn() -> onnx.ModelProto:
    """Convolutions, a residual addition, pooling and a dense layer; resnet8 in small."""
    b = GraphBuilder()
    x = b.op("Relu", b.conv("image", (1, 8)))
    y = b.op("Relu", b.conv(x, (8, 8)))
    x = b.op("Relu", b.op("Add", b.conv(y, (8, 8)), x))
    x = b.op("Relu", b.op("Add", b.conv(x, (8, 16), stride=2), b.conv(x, (8, 16), 1, stride=2)))
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    x = b.op("Gemm", x, b.weight(10, 16), b.weight(10), transB=1)
    return b.model({"image": ["N", 1, 14, 14]}, {x: ["N", 10]})


def depthwise_cnn() -> onnx.ModelProto:
    """An inverted residual block with clipped activations, as in MobileNetV2."""
    b = GraphBuilder(1)

    def relu6(x: str) -> str:
        return b.op("Clip", x, b.constant(np.float32(0)), b.constant(np.float32(6)))

    x = relu6(b.conv("image", (3, 8), stride=2))
    y = relu6(b.conv(x, (8, 32), 1))
    y = relu6(b.conv(y, (32, 32), 3, group=32))
    x = b.op("Add", b.conv(y, (32, 8), 1), x)
    x = b.op("ReduceMean", x, b.constant(np.array([2, 3])), keepdims=0)
    x = b.op("MatMul", x, b.weight(8, 5))
    return b.model({"image": ["N", 3, 16, 16]}, {x: ["N", 5]})


def mlp() -> onnx.ModelProto:
    """Two dense layers."""
    b = GraphBuilder(2)
    x = b.op("Relu", b.op("Gemm", "x", b.weight(20, 12), b.weight(12)))
    x = b.op("Gemm", x, b.weight(12, 3), b.weight(3))
    return b.model({"x": ["N", 20]}, {x: ["N", 3]})


def two_in_two_out() -> onnx.ModelProto:
    """Outputs of every kind: computed, computed and read again, an input handed through."""
    b = GraphBuilder(3)
    total = b.op("Add", "left", "right")
    scaled = b.op("Mul", total, b.constant(np.float32(0.5)))
    same = b.op("Identity", "left")
    shape: Shape = ["N", 6]
    return b.model({"left": shape, "right": shape}, {total: shape, scaled: shape, same: shape})


def transformer(length: int = 8, width: int = 16, heads: int = 2) -> onnx.ModelProto:
    """One encoder block over token ids and a mask, and a pooled second output; MiniLM in small."""
    b = GraphBuilder(4)
    split = b.constant(np.array([-1, length, heads, width // heads]))
    joined = b.constant(np.array([-1, length, width]))

    def dense(x: str, inputs: int, outputs: int) -> str:
        return b.op("Add", b.op("MatMul", x, b.weight(inputs, outputs)), b.weight(outputs))

    def norm(x: str) -> str:
        return b.op("LayerNormalization", x, b.weight(width), b.weight(width), axis=-1)

    def head(x: str, order: list[int]) -> str:
        return b.op("Transpose", b.op("Reshape", dense(x, width, width), split), perm=order)

    x = b.op("Add", b.op("Gather", b.weight(30, width), "ids"), b.weight(1, length, width))
    mask = b.op("Sub", b.constant(np.float32(1)), b.op("Cast", "mask", to=TensorProto.FLOAT))
    mask = b.op("Mul", mask, b.constant(np.float32(-1e4)))
    mask = b.op("Unsqueeze", mask, b.constant(np.array([1, 2])))
    x = norm(x)
    scores = b.op("MatMul", head(x, [0, 2, 1, 3]), head(x, [0, 2, 3, 1]))
    scores = b.op("Add", b.op("Mul", scores, b.constant(np.float32(0.35))), mask)
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), head(x, [0, 2, 1, 3]))
    mixed = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
    x = norm(b.op("Add", dense(mixed, width, width), x))
    y = dense(x, width, 2 * width)
    gate = b.op("Erf", b.op("Div", y, b.constant(np.float32(2**0.5))))
    y = b.op(
        "Mul",
        b.op("Mul", y, b.op("Add", gate, b.constant(np.float32(1)))),
        b.constant(np.float32(0.5)),
    )
    x = norm(b.op("Add", dense(y, 2 * width, width), x))
    starts, ends, axes = (b.constant(np.array([value])) for value in (0, 1, 1))
    first = b.op("Squeeze", b.op("Slice", x, starts, ends, axes), axes)
    pooled = b.op("Tanh", dense(first, width, width))
    return b.model(
        {"ids": ["N", length], "mask": ["N", length]},
        {x: ["N", length, width], pooled: ["N", width]},
        dtypes={"ids": "int64", "mask": "int64"},
    )


def computed_pads() -> onnx.ModelProto:
    """Pads that an exporter left to be computed from constants."""
    b = GraphBuilder(5)
    pads = b.op("Concat", b.constant(np.array([0, 0, 1])), b.constant(np.array([0, 0, 1])), axis=0)
    x = b.op("Pad", "x", pads)
    x = b.op("Relu", x)
    return b.model({"x": ["N", 2, 5]}, {x: ["N", 2, 7]})


def quantized(model: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """Quantize every input, weight and result of convolutions, sums and products, as QDQ.

    Scales are fixed by a short calibration on random input; only the structure matters here.
    """
    from edgekit.compiler.locate import intermediates

    rng = np.random.default_rng(0)
    inputs = {
        item.name: rng.standard_normal(shape).astype(np.float32) for item in model.graph.input
    }
    values = inputs | intermediates(model, inputs)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    b = GraphBuilder()
    b.initializers.extend(model.graph.initializer)
    moved: dict[str, str] = {}
    scales: dict[str, np.float32] = {}

    def through(name: str, source: str) -> str:
        low, high = min(0.0, float(values[name].min())), max(0.0, float(values[name].max()))
        scale = scales[name] = np.float32(max(high - low, 1e-3) / 255)
        zero_point = np.uint8(np.clip(round(-low / scale), 0, 255))
        parameters = (b.constant(scale), b.constant(zero_point))
        return b.op("DequantizeLinear", b.op("QuantizeLinear", source, *parameters), *parameters)

    def stored(name: str, scale: np.float32, kind: type[np.signedinteger[Any]]) -> str:
        integers = np.round(constants[name] / scale).astype(kind)
        return b.op(
            "DequantizeLinear", b.constant(integers), b.constant(scale), b.constant(kind(0))
        )

    for item in model.graph.input:
        moved[item.name] = through(item.name, item.name)
    for node in model.graph.node:
        is_product = node.op_type in ("Conv", "Gemm", "MatMul")
        reads = [moved.get(name, name) for name in node.input]
        if is_product:
            x, weight, *bias = node.input
            scale = np.float32(np.abs(constants[weight]).max() / 127)
            reads[1] = stored(weight, scale, np.int8)
            reads[2:] = [stored(name, scale * scales[x], np.int32) for name in bias]
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        result = b.op(node.op_type, *reads, **attributes)
        following = [other.op_type for other in model.graph.node if node.output[0] in other.input]
        is_fused = following == ["Relu"]
        moved[node.output[0]] = result if is_fused else through(node.output[0], result)
    output = model.graph.output[0]
    dims = [dim.dim_value or dim.dim_param for dim in output.type.tensor_type.shape.dim]
    inputs_shape = {
        item.name: [dim.dim_value or dim.dim_param for dim in item.type.tensor_type.shape.dim]
        for item in model.graph.input
    }
    used = {name for node in b.nodes for name in node.input}
    b.initializers = [item for item in b.initializers if item.name in used]
    return b.model(inputs_shape, {moved[output.name]: dims})
