"""Whatever is wrong with a model is said before any code is generated, with the node's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.compiler.build_library import CompileJob, Watch, read_model
from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.operators import Network
from edgekit.compiler.onnx_file import specialise
from edgekit.core.errors import InputError
from edgekit.core.target import load_target
from tests.compiler.onnx_models import GraphBuilder

SCALE, ZERO = np.float32(0.1), np.uint8(128)


def read(model: onnx.ModelProto, folder: Path, target: str = "host") -> Network:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    job = CompileJob(onnx_path=str(path), out=str(folder), target=load_target(target))
    return read_network(read_model(job, Watch(phase=lambda _: None, detail=lambda _: None)))


def quantized_product(
    *,
    weights: np.ndarray | None = None,
    weight_scale: np.ndarray | None = None,
    axis: int = 0,
    scale: np.ndarray | None = None,
    zero_point: np.ndarray | None = None,
) -> onnx.ModelProto:
    """A quantized convolution; node `quantize` makes its input, `weights` its weights."""
    b = GraphBuilder()
    levels = np.ones((4, 3, 1, 1), np.int8) if weights is None else weights
    spread = np.full(4, 0.1, np.float32) if weight_scale is None else weight_scale
    grid = [b.constant(SCALE if scale is None else scale)]
    grid.append(b.constant(ZERO if zero_point is None else zero_point))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", *grid), *grid)
    b.nodes[0].name = "quantize"
    parameters = [b.constant(spread), b.constant(np.zeros(spread.shape, np.int8))]
    w = b.op("DequantizeLinear", b.constant(levels), *parameters, axis=axis)
    b.nodes[-1].name = "weights"
    y = b.op("Conv", x, w)
    b.nodes[-1].name = "product"
    y = b.op("DequantizeLinear", b.op("QuantizeLinear", y, *grid), *grid)
    graph = helper.make_graph(
        b.nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 4, 5, 5])],
        b.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def with_open_sizes(shape: Sequence[int | str]) -> onnx.ModelProto:
    b = GraphBuilder()
    return b.model({"x": shape}, {b.op("Relu", "x"): shape})


def test_a_sound_quantized_product_is_read(tmp_path: Path) -> None:
    network = read(quantized_product(), tmp_path)
    assert [type(item).__name__ for item in network.operators][1] == "Convolution"


def test_open_sizes_are_asked_for_by_name(tmp_path: Path) -> None:
    model = with_open_sizes(["N", 3, "height", 8])
    with pytest.raises(InputError, match=r"open size 'height'.*Hint: .*fixed size for 'height'"):
        read(model, tmp_path)


def test_open_sizes_can_be_given(tmp_path: Path) -> None:
    model = specialise(with_open_sizes(["N", 3, "height", 8]), {"height": 5})
    assert read(model, tmp_path).tensors["x"].shape == (1, 3, 5, 8)


def test_sizes_that_only_the_run_knows_name_their_node(tmp_path: Path) -> None:
    b = GraphBuilder()
    y = b.op("Cast", b.op("NonZero", "x"), to=TensorProto.FLOAT)
    model = b.model({"x": [2, 3]}, {y: [2, "found"]})
    with pytest.raises(InputError, match=r"nonzero_0|node_nonzero_0|found"):
        read(model, tmp_path)


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.COMPLEX64, TensorProto.INT4])
def test_types_nobody_computes_in_are_refused(tmp_path: Path, kind: int) -> None:
    node = helper.make_node("Identity", ["x"], ["y"], name="same")
    infos = [helper.make_tensor_value_info(name, kind, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "graph", infos[:1], infos[1:])
    opset = [helper.make_opsetid("", 21)]
    with pytest.raises(InputError, match=r"'x': found element type \d+, expected .*float32"):
        read(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path)


def test_an_input_without_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="input 'x': found size 0 at axis 1"):
        read(with_open_sizes([1, 0, 4]), tmp_path)


def test_an_inner_tensor_without_a_value_names_its_node(tmp_path: Path) -> None:
    b = GraphBuilder()
    ends = [b.constant(np.array([value])) for value in (2, 2, 1)]
    part = b.op("Slice", "x", *ends)
    model = b.model({"x": [1, 4]}, {b.op("Concat", part, "x", axis=1): [1, 4]})
    with pytest.raises(InputError, match="node_slice_0"):
        read(model, tmp_path)


def test_a_scale_that_is_no_constant_names_its_node(tmp_path: Path) -> None:
    b = GraphBuilder()
    zero_point = b.constant(ZERO)
    y = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", "scale", zero_point), "scale")
    model = b.model({"x": [1, 4], "scale": []}, {y: [1, 4]})
    with pytest.raises(InputError, match=r"'node_quantizelinear_0'.*scale"):
        read(model, tmp_path)


def test_a_missing_scale_names_its_node(tmp_path: Path) -> None:
    node = helper.make_node("QuantizeLinear", ["x"], ["y"], name="bare")
    infos = [
        helper.make_tensor_value_info(name, kind, [1, 4])
        for name, kind in (("x", TensorProto.FLOAT), ("y", TensorProto.UINT8))
    ]
    graph = helper.make_graph([node], "graph", infos[:1], infos[1:])
    opset = [helper.make_opsetid("", 18)]
    with pytest.raises(InputError, match="bare"):
        read(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path)


@pytest.mark.parametrize("value", [0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_that_is_no_positive_number_names_its_node(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match=r"'quantize'.*scale"):
        read(quantized_product(scale=np.float32(value)), tmp_path)


def test_an_axis_beyond_the_tensor_names_its_node(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'?weights'?.*axis"):
        read(quantized_product(axis=7), tmp_path)


def test_scales_must_be_as_many_as_channels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'weights'.*3 .*4"):
        read(quantized_product(weight_scale=np.full(3, 0.1, np.float32)), tmp_path)


def test_a_zero_point_of_another_type_names_its_node(tmp_path: Path) -> None:
    model = quantized_product()
    dequantize = model.graph.node[1]
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "other"))
    dequantize.input[2] = "other"
    with pytest.raises(InputError, match=dequantize.name):
        read(model, tmp_path)


def unfitting(kind: str, *operands: np.ndarray, **attributes: int | list[int]) -> onnx.ModelProto:
    """One node `node_KIND_0` over an image of 4 channels; the checker of ONNX lets all pass."""
    b = GraphBuilder()
    return b.model(
        {"x": [1, 4, 6, 6]}, {b.op(kind, "x", *map(b.constant, operands), **attributes): []}
    )


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


UNFITTING = {
    "more channels than there are": unfitting("Conv", ones(4, 5, 3, 3)),
    "fewer channels": unfitting("Conv", ones(4, 3, 3, 3)),
    "no group": unfitting("Conv", ones(4, 4, 3, 3), group=0),
    "groups that leave outputs": unfitting("Conv", ones(5, 2, 3, 3), group=2),
    "another kernel shape": unfitting("Conv", ones(4, 4, 3, 3), kernel_shape=[5, 5]),
    "a short bias": unfitting("Conv", ones(4, 4, 3, 3), ones(3)),
    "a transposed convolution's channels": unfitting("ConvTranspose", ones(3, 5, 3, 3)),
    "a transposed convolution's bias": unfitting("ConvTranspose", ones(4, 5, 3, 3), ones(4)),
    "a short scale": unfitting("InstanceNormalization", ones(3), ones(4)),
    "more values": unfitting("Reshape", np.array([1, 145])),
    "fewer values": unfitting("Reshape", np.array([1, 143])),
    "fewer axes": unfitting("Transpose", perm=[0, 2, 1]),
    "an index outside": unfitting("Gather", np.array([1, 4]), axis=1),
}


@pytest.mark.parametrize("case", UNFITTING)
def test_operands_that_do_not_fit_name_their_node(tmp_path: Path, case: str) -> None:
    with pytest.raises(InputError, match=r"'node_\w+_0' \(\w+\): found .*, expected \["):
        read(UNFITTING[case], tmp_path)


def test_a_bias_that_does_not_fit_a_product_names_its_node(tmp_path: Path) -> None:
    b = GraphBuilder()
    y = b.op("Gemm", "x", b.constant(ones(8, 3)), b.constant(ones(4)))
    with pytest.raises(InputError, match=r"node_gemm_0.*bias of shape \[4\], expected \[3\]"):
        read(b.model({"x": [1, 8]}, {y: [1, 3]}), tmp_path)


def test_an_output_without_a_value_names_its_node(tmp_path: Path) -> None:
    b = GraphBuilder()
    y = b.op("Conv", "x", b.constant(ones(4, 4, 7, 7)))
    with pytest.raises(InputError, match=f"output '{y}' of operator 'node_{y}': found size 0"):
        read(b.model({"x": [1, 4, 6, 6]}, {y: [1, 4, 0, 0]}), tmp_path)


def test_windows_larger_than_the_image_are_not_called_too_large_for_memory(tmp_path: Path) -> None:
    b = GraphBuilder()
    y = b.op("MaxPool", "x", kernel_shape=[9, 9])
    with pytest.raises(InputError, match=f"'{y}'.*-2.*expected sizes from 0 on.*window"):
        read(b.model({"x": [1, 4, 6, 6]}, {y: [1, 4, 1, 1]}), tmp_path)


def test_names_that_c_would_cut_are_refused(tmp_path: Path) -> None:
    b = GraphBuilder()
    with pytest.raises(InputError, match="names without a NUL"):
        read(b.model({"x\0y": [1, 4]}, {b.op("Relu", "x\0y"): [1, 4]}), tmp_path)


def test_tensors_beyond_memory_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    b = GraphBuilder()
    repeats = b.constant(np.array([1 << 16, 1 << 16]))
    model = b.model({"x": [4, 4]}, {b.op("Tile", "x", repeats): [1 << 18, 1 << 18]})
    with pytest.raises(InputError, match=r"tile_0.*at most"):
        read(model, tmp_path)
