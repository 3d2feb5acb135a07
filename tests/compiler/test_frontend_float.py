"""What becomes of float ONNX graphs: as few operators as there can be, the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.compiler.graph.operators import (
    Activation,
    Convolution,
    Dense,
    Elementwise,
    GlobalAverage,
    Pool,
    Resize,
    Unary,
)
from tests.compiler import onnx_models
from tests.compiler.frontend_checks import (
    ACTIVATION_TOLERANCE,
    kinds,
    only,
    read,
    read_and_compare,
)
from tests.compiler.onnx_models import GraphBuilder

SHAPE = (1, 4, 6, 6)


def number(b: GraphBuilder, value: float) -> str:
    return b.constant(np.float32(value))


def test_a_residual_net_is_one_operator_per_convolution() -> None:
    network = read_and_compare(onnx_models.residual_cnn())
    assert kinds(network) == ["Convolution"] * 5 + ["GlobalAverage", "Dense"]
    joined = network.operators[2]
    assert isinstance(joined, Convolution)
    assert joined.nodes == ("node_conv_4", "node_add_5", "node_relu_6")
    assert joined.reads == ("relu_3", "relu_1")
    assert joined.activation == Activation("relu")


def test_an_inverted_residual_keeps_its_clips_in_its_convolutions() -> None:
    network = read_and_compare(onnx_models.depthwise_cnn())
    assert kinds(network) == ["Convolution"] * 4 + ["GlobalAverage", "Dense"]
    depthwise = network.operators[2]
    assert isinstance(depthwise, Convolution)
    assert depthwise.groups == 32
    assert depthwise.activation == Activation("clip", low=0.0, high=6.0)


def test_what_else_is_read_or_handed_out_is_not_fused_away() -> None:
    b = GraphBuilder()
    y = b.conv("x", (4, 4))
    z = b.op("Relu", y)
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE, z: SHAPE}))
    assert kinds(network) == ["Convolution", "Unary"]


def test_batch_normalisation_vanishes_into_the_convolution_before_it() -> None:
    b = GraphBuilder()
    statistics = [b.constant(np.float32([1, 2, 0.5, 3])) for _ in range(4)]
    y = b.op("Relu", b.op("BatchNormalization", b.conv("x", (4, 4)), *statistics))
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert kinds(network) == ["Convolution"]


def test_batch_normalisation_alone_is_a_depthwise_convolution() -> None:
    b = GraphBuilder()
    statistics = [b.constant(np.float32([1, 2, 0.5, 3])) for _ in range(4)]
    y = b.conv(b.op("Relu", b.op("BatchNormalization", "x", *statistics)), (4, 4))
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert kinds(network) == ["Convolution", "Convolution"]
    assert network.operators[0].weights.shape == (4, 1, 1, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)], ids=["number", "one", "channels", "image"]
)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_constants_behind_a_convolution_vanish_into_it(kind: str, shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    value = b.constant(np.abs(b.rng.standard_normal(shape)).astype(np.float32) + 0.5)
    y = b.op(kind, b.conv("x", (4, 4)), value)
    assert kinds(read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))) == ["Convolution"]


def test_constants_that_differ_between_pixels_do_not() -> None:
    b = GraphBuilder()
    y = b.op("Add", b.conv("x", (4, 4)), b.weight(1, 1, 6, 6))
    assert kinds(read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))) == ["Convolution", "Region"]


def test_gemm_scales_its_weights_and_its_bias() -> None:
    b = GraphBuilder()
    y = b.op("Gemm", "x", b.weight(5, 7), b.weight(1, 5), transB=1, alpha=0.5, beta=3.0)
    dense = only(read_and_compare(b.model({"x": [2, 7]}, {y: [2, 5]})), Dense)
    assert dense.weights.shape == (5, 7)


def test_a_product_of_matrices_takes_the_sum_behind_it_as_its_bias() -> None:
    b = GraphBuilder()
    y = b.op("Add", b.weight(5), b.op("MatMul", "x", b.weight(7, 5)))
    y = b.op("Add", b.op("Tanh", y), "z")
    shape = [1, 3, 5]
    network = read_and_compare(b.model({"x": [1, 3, 7], "z": shape}, {y: shape}))
    assert kinds(network) == ["Dense", "Elementwise"]
    assert network.operators[0].activation == Activation("tanh")  # type: ignore[attr-defined]


def test_a_residual_of_another_shape_is_a_sum_of_its_own() -> None:
    b = GraphBuilder()
    y = b.op("Add", b.conv("x", (4, 4)), b.op("GlobalAveragePool", "x"))
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert sorted(kinds(network)) == ["Convolution", "Elementwise", "GlobalAverage"]


def test_the_spread_operand_comes_second() -> None:
    b = GraphBuilder()
    y = b.op("Mul", b.op("Sigmoid", b.op("GlobalAveragePool", "x")), "x")
    product = only(read_and_compare(b.model({"x": SHAPE}, {y: SHAPE})), Elementwise)
    assert product.reads[0] == "x"


def pad(b: GraphBuilder, x: str, pads: list[int], value: float | None = None) -> str:
    operands = [] if value is None else [number(b, value)]
    return b.op("Pad", x, b.constant(np.array(pads)), *operands)


def test_zero_pads_become_those_of_the_convolution() -> None:
    b = GraphBuilder()
    x = pad(b, "x", [0, 0, 1, 0, 0, 0, 2, 3])
    y = b.op("Conv", x, b.weight(4, 4, 3, 3), pads=[1, 1, 0, 0])
    network = read_and_compare(b.model({"x": SHAPE}, {y: [1, 4, 8, 8]}))
    assert only(network, Convolution).pads == (2, 1, 2, 3)


def test_other_pads_stay() -> None:
    b = GraphBuilder()
    x = pad(b, "x", [0, 0, 1, 1, 0, 0, 1, 1], 0.5)
    y = b.op("Conv", x, b.weight(4, 4, 3, 3))
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert kinds(network) == ["Region", "Convolution"]


@pytest.mark.parametrize(("value", "is_merged"), [(-math.inf, True), (0.0, False)])
def test_a_maximum_takes_only_pads_that_never_win(value: float, is_merged: bool) -> None:
    b = GraphBuilder()
    x = pad(b, "x", [0, 0, 1, 1, 0, 0, 0, 0], value)
    y = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    network = read_and_compare(b.model({"x": SHAPE}, {y: [1, 4, 3, 3]}))
    assert kinds(network) == (["Pool"] if is_merged else ["Region", "Pool"])


def test_zeros_count_in_an_average_whose_pads_are_merged() -> None:
    b = GraphBuilder()
    x = pad(b, "x", [0, 0, 1, 1, 0, 0, 1, 1])
    y = b.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2])
    network = read_and_compare(b.model({"x": SHAPE}, {y: [1, 4, 3, 3]}))
    assert kinds(network) == ["Pool"]
    assert (only(network, Pool).divisors == 9).all()


@pytest.mark.parametrize("counts_pads", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
def test_averages_divide_by_what_their_windows_count(counts_pads: int, ceil: int) -> None:
    b = GraphBuilder()
    y = b.op(
        "AveragePool",
        "x",
        kernel_shape=[3, 2],
        strides=[2, 2],
        pads=[1, 0, 1, 1],
        count_include_pad=counts_pads,
        ceil_mode=ceil,
    )
    shape = [1, 2, 4 if ceil else 3, 3]
    y = b.op("Relu", y)  # onnx infers another shape for an output of opset 18
    assert kinds(read_and_compare(b.model({"x": [1, 2, 6, 6]}, {y: shape}))) == ["Pool", "Unary"]


@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_pads_are_spelled_out(same: str) -> None:
    b = GraphBuilder()
    y = b.op("Conv", "x", b.weight(4, 4, 3, 2), strides=[2, 2])
    b.nodes[-1].attribute.append(helper.make_attribute("auto_pad", same))
    shape = [1, 4, 2, 3] if same == "VALID" else [1, 4, 3, 3]
    assert kinds(read_and_compare(b.model({"x": SHAPE}, {y: shape}))) == ["Convolution"]


def test_convolutions_over_lines_are_convolutions_over_images_of_height_1() -> None:
    b = GraphBuilder()
    y = b.op("Relu", b.op("Conv", "x", b.weight(4, 4, 3), b.weight(4), pads=[1, 1]))
    y = b.op("Conv", y, b.weight(2, 4, 3), strides=[2])
    network = read_and_compare(b.model({"x": [1, 4, 9]}, {y: [1, 2, 4]}))
    assert kinds(network) == ["Reshape", "Convolution", "Convolution", "Reshape"]


def hard_swish(b: GraphBuilder, style: str) -> str:
    if style == "product":
        return b.op("Mul", "x", b.op("HardSigmoid", "x", alpha=1 / 6, beta=0.5))
    if style == "operator":
        return b.op("HardSwish", "x")
    shifted = b.op("Add", number(b, 3), "x")
    clipped = b.op("Clip", shifted, number(b, 0), number(b, 6))
    if style == "divided first":
        return b.op("Mul", b.op("Div", clipped, number(b, 6)), "x")
    return b.op("Div", b.op("Mul", "x", clipped), number(b, 6))


def gelu(b: GraphBuilder, style: str) -> str:
    inner = b.op("Erf", b.op("Div", "x", number(b, 2**0.5)))
    gate = b.op("Add", inner, number(b, 1))
    if style == "halved first":
        return b.op("Mul", b.op("Mul", "x", number(b, 0.5)), gate)
    return b.op("Mul", b.op("Mul", "x", gate), number(b, 0.5))


def gelu_tanh(b: GraphBuilder) -> str:
    cube = b.op("Mul", b.op("Mul", "x", "x"), "x")
    inner = b.op("Add", "x", b.op("Mul", cube, number(b, 0.044715)))
    gate = b.op("Tanh", b.op("Mul", inner, number(b, (2 / math.pi) ** 0.5)))
    return b.op("Mul", b.op("Mul", b.op("Add", gate, number(b, 1)), "x"), number(b, 0.5))


SPELLINGS = {
    "hard-swish, product": ("hard-swish", lambda b: hard_swish(b, "product")),
    "hard-swish, operator": ("hard-swish", lambda b: hard_swish(b, "operator")),
    "hard-swish, divided first": ("hard-swish", lambda b: hard_swish(b, "divided first")),
    "hard-swish, divided last": ("hard-swish", lambda b: hard_swish(b, "divided last")),
    "silu": ("silu", lambda b: b.op("Mul", b.op("Sigmoid", "x"), "x")),
    "gelu, halved first": ("gelu", lambda b: gelu(b, "halved first")),
    "gelu, halved last": ("gelu", lambda b: gelu(b, "halved last")),
    "gelu by tanh": ("gelu-tanh", gelu_tanh),
    "relu6": ("clip", lambda b: b.op("Min", b.op("Relu", "x"), number(b, 6))),
    "clip by bounds": (
        "clip",
        lambda b: b.op("Max", b.op("Min", "x", number(b, 2)), number(b, -1)),
    ),
    "relu": ("relu", lambda b: b.op("Max", "x", number(b, 0))),
    "clip from below": ("clip", lambda b: b.op("Clip", "x", number(b, -0.5))),
    "leaky relu": ("leaky-relu", lambda b: b.op("PRelu", "x", number(b, 0.2))),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_activations_are_known_by_what_they_compute(name: str) -> None:
    wanted, spell = SPELLINGS[name]
    b = GraphBuilder()
    y = spell(b)
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}), ACTIVATION_TOLERANCE)
    assert only(network, Unary).activation.function == wanted
    assert kinds(network) == ["Unary"]
    assert set(network.operators[0].nodes) == {node.name for node in b.nodes}


def test_an_almost_activation_is_none() -> None:
    b = GraphBuilder()
    y = b.op("Mul", "x", b.op("Sigmoid", b.op("Mul", "x", number(b, 1.702))))
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert "Unary" not in kinds(network) or only(network, Unary).activation.function == "sigmoid"


@pytest.mark.parametrize("style", ["mean", "kept mean", "pool", "window", "flattened"])
def test_every_spelling_of_the_mean_of_an_image_is_one_operator(style: str) -> None:
    b = GraphBuilder()
    axes = b.constant(np.array([-1, 2]))
    if style in ("mean", "kept mean"):
        y = b.op("ReduceMean", "x", axes, keepdims=int(style == "kept mean"))
    elif style == "window":
        y = b.op("AveragePool", "x", kernel_shape=[6, 6])
    else:
        y = b.op("GlobalAveragePool", "x")
    if style == "flattened":
        y = b.op("Squeeze", y, axes)
    shape = [1, 4] if style in ("mean", "flattened") else [1, 4, 1, 1]
    network = read_and_compare(b.model({"x": SHAPE}, {y: shape}))
    assert kinds(network) == ["GlobalAverage"]
    assert only(network, GlobalAverage).writes == (y,)


RESIZES = {
    "nearest, plain": (True, {"mode": "nearest"}),
    "nearest, floor": (
        True,
        {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
    ),
    "nearest, ceil": (
        False,
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"},
    ),
    "linear": (True, {"mode": "linear"}),
    "linear, pytorch": (
        True,
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    ),
    "linear, corners": (
        False,
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "cubic": (False, {"mode": "cubic"}),
}


@pytest.mark.parametrize("name", RESIZES)
def test_only_the_usual_ways_of_resizing_have_an_operator(name: str) -> None:
    is_own, attributes = RESIZES[name]
    b = GraphBuilder()
    scales = b.constant(np.float32([1, 1, 2, 3]))
    y = b.op("Resize", "x", "", scales, **attributes)
    network = read_and_compare(b.model({"x": SHAPE}, {y: [1, 4, 12, 18]}))
    assert kinds(network) == (["Resize"] if is_own else ["Region"])
    if is_own:
        assert only(network, Resize).factors == (2, 3)


def test_resizing_to_a_size_is_resizing_by_a_factor() -> None:
    b = GraphBuilder()
    y = b.op("Resize", "x", "", "", b.constant(np.array([1, 4, 12, 12])), mode="nearest")
    assert only(read_and_compare(b.model({"x": SHAPE}, {y: [1, 4, 12, 12]})), Resize)


@pytest.mark.parametrize(
    ("axis", "opset", "expected"),
    [(-1, 18, ["Softmax"]), (1, 18, ["Region"]), (1, 12, ["Reshape", "Softmax", "Reshape"])],
)
def test_softmax_goes_along_the_last_axis(axis: int, opset: int, expected: list[str]) -> None:
    b = GraphBuilder()
    y = b.op("Softmax", "x", axis=axis)
    assert kinds(read_and_compare(b.model({"x": [2, 3, 4]}, {y: [2, 3, 4]}), opset=opset)) == (
        expected
    )


def test_transposes_that_undo_each_other_vanish() -> None:
    b = GraphBuilder()
    x = b.op("Transpose", "x", perm=[0, 2, 3, 1])
    y = b.op("Relu", b.op("Transpose", x, perm=[0, 3, 1, 2]))
    assert kinds(read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))) == ["Unary"]


def test_shapes_in_a_row_are_one() -> None:
    b = GraphBuilder()
    x = b.op("Flatten", b.op("Unsqueeze", b.op("Relu", "x"), b.constant(np.array([1]))))
    x = b.op("Reshape", x, b.constant(np.array([4, -1])))
    y = b.op("Transpose", b.op("Reshape", x, b.constant(np.array([1, 144]))), perm=[1, 0])
    network = read_and_compare(b.model({"x": SHAPE}, {y: [144, 1]}))
    assert sorted(kinds(network)) == ["Reshape", "Unary"]


def test_shapes_computed_from_shapes_are_constants() -> None:
    b = GraphBuilder()
    size = b.op("Gather", b.op("Shape", "x"), b.constant(np.array([0])))
    target = b.op("Concat", size, b.constant(np.array([-1])), axis=0)
    y = b.op("Gemm", b.op("Reshape", "x", target), b.weight(144, 3))
    assert kinds(read_and_compare(b.model({"x": SHAPE}, {y: [1, 3]}))) == ["Reshape", "Dense"]


def test_a_condition_known_before_the_run_leaves_one_branch() -> None:
    b = GraphBuilder()
    condition = b.op("Equal", b.op("Size", "x"), b.constant(np.array(144)))
    info = [helper.make_tensor_value_info("r", TensorProto.FLOAT, SHAPE)]
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(kind, ["x"], ["r"])], name, [], info)
        for name, kind in (("then", "Relu"), ("else", "Ceil"))
    }
    b.nodes.append(helper.make_node("If", [condition], ["chosen"], name="if", **branches))
    network = read_and_compare(b.model({"x": SHAPE}, {b.op("Tanh", "chosen"): SHAPE}))
    assert kinds(network) == ["Unary", "Unary"]


def test_inputs_and_constants_can_be_handed_out() -> None:
    b = GraphBuilder()
    same, known = b.op("Identity", "x"), b.op("Identity", b.weight(2, 3))
    network = read_and_compare(b.model({"x": SHAPE}, {same: SHAPE, known: [2, 3]}))
    assert kinds(network) == ["Reshape", "Region"]


def test_nodes_without_a_name_get_one() -> None:
    b = GraphBuilder()
    y = b.op("Relu", b.op("Ceil", "x"))
    for node in b.nodes:
        node.name = ""
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert [operator.name for operator in network.operators] == ["Ceil_0", "Relu_1"]


def test_names_given_twice_are_told_apart() -> None:
    b = GraphBuilder()
    y = b.op("Tanh", b.op("Exp", b.op("Neg", "x")))
    for node in b.nodes:
        node.name = "same"
    network, _ = read(b.model({"x": SHAPE}, {y: SHAPE}))
    assert [operator.name for operator in network.operators] == ["same", "same_2", "same_3"]
