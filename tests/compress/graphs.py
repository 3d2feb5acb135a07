"""ONNX graphs written by hand, small enough to reason about."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


class GraphBuilder:
    """Collect nodes and constants; every node is named after its output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, output: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(
        self, output: str, x: str, given: int, taken: int, *, groups: int = 1, kernel: int = 3
    ) -> str:
        shape = (taken, given // groups, kernel, kernel)
        spread = (2 / (given // groups * kernel * kernel)) ** 0.5
        weight = self.rng.standard_normal(shape).astype(np.float32) * np.float32(spread)
        bias = self.rng.standard_normal(taken).astype(np.float32) * np.float32(0.1)
        return self.op(
            "Conv",
            output,
            x,
            self.constant(f"{output}.weight", weight),
            self.constant(f"{output}.bias", bias),
            pads=[kernel // 2] * 4,
            kernel_shape=[kernel, kernel],
            group=groups,
        )

    def linear(self, output: str, x: str, given: int, taken: int) -> str:
        weight = (self.rng.standard_normal((taken, given)) / given**0.5).astype(np.float32)
        return self.op(
            "Gemm",
            output,
            x,
            self.constant(f"{output}.weight", weight),
            self.constant(f"{output}.bias", np.zeros(taken, np.float32)),
            transB=1,
        )

    def model(
        self,
        inputs: dict[str, list[int | str]],
        outputs: dict[str, list[int | str]],
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        return model


def mixed_net() -> onnx.ModelProto:
    """Every operator that must become integer, on images (batch, 2, 8, 8); 5 classes."""
    b = GraphBuilder()
    x = b.op("Relu", "stem_relu", b.conv("stem", "image", 2, 8))
    y = b.op("Relu", "sum_relu", b.op("Add", "sum", b.conv("body", x, 8, 8), x))
    low, high = (b.constant(name, np.float32(v)) for name, v in (("zero", 0), ("six", 6)))
    z = b.op("Clip", "clip", b.conv("depthwise", y, 8, 8, groups=8), low, high)
    p = b.op("MaxPool", "pool", z, kernel_shape=[2, 2], strides=[2, 2])
    c = b.op("Concat", "cat", b.conv("left", p, 8, 4, kernel=1), b.conv("right", p, 8, 4), axis=1)
    m = b.op("ReduceMean", "mean", c, b.constant("axes", np.array([2, 3])), keepdims=0)
    b.linear("scores", m, 8, 5)
    return b.model({"image": ["batch", 2, 8, 8]}, {"scores": ["batch", 5]})


def attention_net() -> onnx.ModelProto:
    """A masked softmax between two products with constants; `x` and `mask` are (batch, 6)."""
    b = GraphBuilder()
    w1 = b.constant("w1", b.rng.standard_normal((6, 6)).astype(np.float32))
    w2 = b.constant("w2", b.rng.standard_normal((6, 3)).astype(np.float32))
    scaled = b.op("Mul", "scaled", b.op("MatMul", "first", "x", w1), b.constant("c", np.float32(2)))
    masked = b.op("Add", "masked", scaled, "mask")
    b.op("MatMul", "second", b.op("Softmax", "weights", masked, axis=-1), w2)
    return b.model({"x": ["batch", 6], "mask": ["batch", 6]}, {"second": ["batch", 3]})


def run(model: onnx.ModelProto, inputs: dict[str, Array], *, optimize: bool = True) -> Array:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Array = session.run(None, inputs)[0]
    return found


def constants_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def images(num_samples: int = 48, *, seed: int = 3) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_samples, 2, 8, 8)).astype(np.float32)
