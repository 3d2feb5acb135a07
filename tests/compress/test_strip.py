from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgekit.compress.quant.strip import strip_quantizers
from tests.compress.graphs import Array, GraphBuilder, run


def simulated(*, weight_clip: bool, output_too: bool) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A linear layer and a ReLU: plain, and with simulated quantization around its values."""

    def build(*, with_quantizers: bool) -> onnx.ModelProto:
        b = GraphBuilder(seed=7)

        def pair(name: str, x: str, scale: float, zero: Array, *, clip: bool = False) -> str:
            if not with_quantizers:
                return x
            parts = b.constant(f"{name}_s", np.float32(scale)), b.constant(f"{name}_z", zero)
            q = b.op("QuantizeLinear", f"{name}_q", x, *parts)
            if clip:
                ends = (b.constant(f"{name}_{e}", np.int8(v)) for e, v in (("l", -127), ("h", 127)))
                q = b.op("Clip", f"{name}_c", q, *ends)
            return b.op("DequantizeLinear", f"{name}_dq", q, *parts)

        weight = b.constant("weight", b.rng.standard_normal((4, 6)).astype(np.float32))
        x = pair("x", "x", 0.1, np.uint8(128))
        w = pair("w", weight, 0.05, np.int8(0), clip=weight_clip)
        y = b.op("Relu", "relu", b.op("Gemm", "gemm", x, w, transB=1))
        y = pair("y", y, 0.2, np.uint8(0))
        last = "y_dq" if with_quantizers and output_too else "twice"
        if last == "twice":
            b.op("Add", "twice", y, y)
        outputs = {last if with_quantizers or not output_too else "relu": ["batch", 4]}
        return b.model({"x": ["batch", 6]}, outputs)

    return build(with_quantizers=True), build(with_quantizers=False)


@pytest.mark.parametrize("weight_clip", [False, True])
def test_without_its_quantizers_a_graph_computes_the_float_result(weight_clip: bool) -> None:
    quantized, plain = simulated(weight_clip=weight_clip, output_too=False)
    stripped, _ = strip_quantizers(quantized)
    onnx.checker.check_model(stripped)
    assert {node.op_type for node in stripped.graph.node} == {"Gemm", "Relu", "Add"}
    assert [tensor.name for tensor in stripped.graph.initializer] == ["weight"]
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    assert np.array_equal(run(stripped, {"x": x}), run(plain, {"x": x}))


def test_ranges_are_the_ends_of_the_grids() -> None:
    quantized, _ = simulated(weight_clip=True, output_too=False)
    _, ranges = strip_quantizers(quantized)
    assert ranges == {
        "x": pytest.approx((-12.8, 12.7)),
        "relu": pytest.approx((0.0, 51.0)),
    }


def test_an_output_behind_a_quantizer_keeps_its_name() -> None:
    quantized, plain = simulated(weight_clip=False, output_too=True)
    stripped, ranges = strip_quantizers(quantized)
    onnx.checker.check_model(stripped)
    assert [info.name for info in stripped.graph.output] == ["y_dq"]
    assert set(ranges) == {"x", "y_dq"}
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    assert np.array_equal(run(stripped, {"x": x}), run(plain, {"x": x}))


def test_the_graph_given_is_left_as_it_is() -> None:
    quantized, _ = simulated(weight_clip=True, output_too=False)
    before = quantized.SerializeToString()
    strip_quantizers(quantized)
    assert quantized.SerializeToString() == before
