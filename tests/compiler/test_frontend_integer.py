"""What becomes of quantized ONNX graphs: operators on levels, each within a step of onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.arithmetic.requantize import multiplier
from edgekit.compiler.graph.check import check_weights
from edgekit.compiler.graph.operators import (
    AddLevels,
    Convolution,
    Dense,
    Dequantize,
    Elementwise,
    GlobalAverage,
    Lookup,
    Pool,
    Rescale,
    ToFloat,
    ToLevels,
)
from edgekit.compiler.graph.reference import run_network
from edgekit.compiler.session import open_session
from edgekit.core.errors import InputError
from tests.compiler.frontend_checks import (
    QdqBuilder,
    kinds,
    only,
    random_inputs,
    read,
    read_levels,
)

SHAPE = (1, 4, 6, 6)
INNER = ["Quantize", "Dequantize"]


def product(b: QdqBuilder, x: str = "x", bias: str | None = None) -> str:
    """A convolution of quantized `x` by weights with a scale per channel."""
    scales = [0.01, 0.02, 0.015, 0.005]
    stored = bias or b.stored_bias(4, [float(np.float32(0.05) * np.float32(s)) for s in scales])
    weights = b.stored(4, 4, 3, 3, scale=scales)
    return b.op("Conv", b.levels(x), weights, stored, pads=[1, 1, 1, 1])


def read_one(
    spell: Callable[[QdqBuilder], str], shape: tuple[int, ...] = SHAPE, seed: int = 0
) -> list[str]:
    """Return the operators between the quantized input and the dequantized output."""
    b = QdqBuilder(seed)
    network = read_levels(b.finish({spell(b): shape}, *SHAPE))
    found = kinds(network)
    assert [found[0], found[-1]] == INNER
    return found[1:-1]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_product_takes_its_bias_and_its_relu_along(dtype: str) -> None:
    b = QdqBuilder()
    scale = float(np.float32(0.05) * np.float32(0.01))
    zero = 100 if dtype == "uint8" else -20
    y = b.op("Conv", b.levels("x", dtype, zero=zero), b.stored(4, 4, 3, 3), b.stored_bias(4, scale))
    y = b.levels(b.op("Relu", y), dtype, scale=0.1, zero=zero)
    network = read_levels(b.finish({y: [1, 4, 4, 4]}, *SHAPE))
    assert kinds(network) == ["Quantize", "Convolution", "Dequantize"]
    convolution = only(network, Convolution)
    assert convolution.weights.dtype == np.int8
    assert convolution.bias.dtype == np.int32
    assert convolution.input_zero_point == zero
    assert (convolution.result.low, convolution.result.zero_point) == (zero, zero)
    assert convolution.result.high == np.iinfo(dtype).max


def test_a_clip_narrows_the_levels_of_a_result() -> None:
    b = QdqBuilder()
    bounds = (b.constant(np.float32(-1)), b.constant(np.float32(6)))
    y = b.levels(b.op("Clip", product(b), *bounds), scale=0.1, zero=100)
    result = only(read_levels(b.finish({y: SHAPE}, *SHAPE)), Convolution).result
    assert (result.low, result.high) == (90, 160)


def test_a_residual_is_requantized_twice_where_the_model_quantizes_twice() -> None:
    b = QdqBuilder()
    own = b.levels(product(b), scale=0.2, zero=120)
    total = b.op("Relu", b.op("Add", b.levels("x"), own))
    network = read_levels(b.finish({b.levels(total, scale=0.3, zero=10): SHAPE}, *SHAPE))
    assert kinds(network) == ["Quantize", "Convolution", "Dequantize"]
    convolution = only(network, Convolution)
    assert convolution.reads[0] == network.operators[0].writes[0] == convolution.reads[1]
    assert convolution.result.zero_point == 120
    add = convolution.add
    assert (add.first_zero_point, add.second_zero_point) == (120, 100)
    assert (add.zero_point, add.low) == (10, 10)
    assert add.first_multiplier == multiplier(0.2, 1.0, 0.3)


def test_a_sum_that_is_quantized_once_stays_a_sum_of_floats() -> None:
    def spell(b: QdqBuilder) -> str:
        return b.levels(b.op("Add", product(b), b.levels("x")), scale=0.2)

    assert sorted(read_one(spell)) == ["Convolution", "Dequantize", "Elementwise", "Quantize"]


def test_a_product_whose_result_stays_float_is_still_one_of_integers() -> None:
    b = QdqBuilder()
    y = b.op("HardSwish", product(b))
    network = read_levels(b.finish({y: SHAPE}, *SHAPE))
    assert kinds(network) == ["Quantize", "Convolution"]
    convolution = only(network, Convolution)
    assert isinstance(convolution.result, ToFloat)
    assert convolution.activation.function == "hard-swish"


@pytest.mark.parametrize("kind", ["Gemm", "MatMul", "MatMul with bias"])
def test_dense_layers_are_products(kind: str) -> None:
    b = QdqBuilder()
    name = kind.split()[0]
    rows = kind == "Gemm"
    weights = b.stored(5, 7) if rows else b.stored(7, 5, scale=[0.01] * 5, axis=1)
    operands = [b.stored_bias(5, float(np.float32(0.05) * np.float32(0.01)))] if rows else []
    y = b.op(name, b.levels("x"), weights, *operands, **({"transB": 1} if rows else {}))
    if kind == "MatMul with bias":
        y = b.op("Add", b.constant(np.arange(5, dtype=np.float32)), y)
    network = read_levels(b.finish({b.levels(y, scale=0.2): [3, 5]}, 3, 7))
    assert kinds(network) == ["Quantize", "Dense", "Dequantize"]
    assert only(network, Dense).weights.shape == (5, 7)


def with_weights(values: np.ndarray, zero: int) -> onnx.ModelProto:
    b = QdqBuilder()
    parts = (b.constant(values), *b.grid(str(values.dtype), scale=0.01, zero=zero))
    y = b.op("Conv", b.levels("x"), b.op("DequantizeLinear", *parts))
    return b.finish({b.levels(y, scale=0.2): [1, 4, 6, 6]}, *SHAPE)


def test_unsigned_weights_move_to_signed_ones_when_they_fit() -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4, 1, 1) + np.uint8(120)
    weights = only(read_levels(with_weights(values, 128)), Convolution).weights
    assert weights.dtype == np.int8
    assert weights.ravel().tolist() == list(range(-8, 8))


def test_weights_that_do_not_fit_stay_float() -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4, 1, 1)
    values[0, 0] = 200
    network = read_levels(with_weights(values, 3))
    convolution = only(network, Convolution)
    assert convolution.weights.dtype == np.float32
    assert convolution.result is None


def test_targets_may_ask_for_weights_within_127() -> None:
    values = np.full((4, 4, 1, 1), -128, np.int8)
    network = read_levels(with_weights(values, 0))
    check_weights(network, 128)
    with pytest.raises(InputError, match=r"'node_conv_3'.*magnitude 128.*within \+-127"):
        check_weights(network, 127)


def test_a_float_bias_is_rounded_where_that_is_next_to_nothing() -> None:
    def spell(b: QdqBuilder) -> str:
        bias = b.constant(np.float32([0.11, -0.3, 2.7, 0]))
        return b.levels(product(b, bias=bias), scale=0.2)

    assert read_one(spell) == ["Convolution"]


def test_a_float_bias_finer_than_the_levels_keeps_the_product_float() -> None:
    b = QdqBuilder()
    bias = b.constant(np.float32([0.0003, 0, 0, 0]))
    y = b.op("Conv", b.levels("x"), b.stored(4, 4, 3, 3, scale=0.01), bias)
    model = b.finish({b.levels(y, scale=0.0006): [1, 4, 4, 4]}, *SHAPE)
    assert only(read_levels(model), Convolution).weights.dtype == np.float32


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_arithmetic_takes_levels(kind: str) -> None:
    b = QdqBuilder()
    y = b.op("Relu", b.op(kind, b.levels("x"), b.levels("z", scale=0.1, zero=7)))
    y = b.levels(y, scale=0.3, zero=3)
    network = read_levels(b.model({"x": SHAPE, "z": SHAPE}, {y: SHAPE}))
    assert kinds(network) == ["Quantize", "Quantize", "Elementwise", "Dequantize"]
    found = only(network, Elementwise)
    assert isinstance(found.result if kind == "Mul" else found.add, ToLevels | AddLevels)


def test_squeeze_and_excite_is_all_integers() -> None:
    def spell(b: QdqBuilder) -> str:
        x = b.levels("x")
        gate = b.levels(b.op("GlobalAveragePool", x), scale=0.02)
        gate = b.op("Conv", gate, b.stored(4, 4, 1, 1))
        gate = b.levels(b.op("HardSigmoid", b.levels(gate, scale=0.04)), scale=1 / 255, zero=0)
        return b.levels(b.op("Mul", gate, x), scale=0.04)

    assert read_one(spell) == ["GlobalAverage", "Convolution", "Lookup", "Elementwise"]


def test_only_operands_on_another_grid_are_moved_before_they_are_joined() -> None:
    b = QdqBuilder()
    parts = [b.levels("x"), b.levels(b.op("MaxPool", b.levels("x"), kernel_shape=[1, 1]), scale=1)]
    y = b.levels(b.op("Concat", *parts, axis=-3))
    network = read_levels(b.finish({y: [1, 8, 6, 6]}, *SHAPE))
    assert sorted(kinds(network)) == [
        *("Concat", "Dequantize", "Pool", "Quantize", "Rescale", "Rescale")
    ]


def test_levels_are_moved_as_they_are() -> None:
    def spell(b: QdqBuilder) -> str:
        x = b.levels(b.op("MaxPool", b.levels("x"), kernel_shape=[2, 2], strides=[2, 2]))
        scales = b.constant(np.float32([1, 1, 2, 2]))
        x = b.op("Resize", x, "", scales, mode="nearest")
        return b.levels(b.op("Flatten", b.levels(x)))

    assert read_one(spell, (1, 144)) == ["Pool", "Resize", "Reshape"]


def test_levels_move_even_where_the_model_quantizes_only_products() -> None:
    def spell(b: QdqBuilder) -> str:
        x = b.op("MaxPool", b.op("Relu", product(b)), kernel_shape=[2, 2], strides=[2, 2])
        x = b.op("Flatten", x)
        return b.levels(b.op("Gemm", b.levels(x, scale=0.1), b.stored(3, 36), transB=1), scale=0.2)

    assert read_one(spell, (1, 3)) == ["Convolution", "Pool", "Reshape", "Dense"]


def test_pads_of_levels_are_the_zero_point() -> None:
    b = QdqBuilder()
    x = b.op("Pad", b.levels("x"), b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    y = b.levels(b.op("Conv", b.levels(x), b.stored(4, 4, 3, 3)), scale=0.2)
    network = read_levels(b.finish({y: SHAPE}, *SHAPE))
    assert kinds(network) == ["Quantize", "Convolution", "Dequantize"]
    assert only(network, Convolution).pads == (1, 1, 1, 1)


@pytest.mark.parametrize("kind", ["AveragePool", "GlobalAveragePool", "ReduceMean"])
def test_averages_requantize_their_sums(kind: str) -> None:
    b = QdqBuilder()
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 0, 0]} if kind == "AveragePool" else {}
    operands = [b.constant(np.array([2, 3]))] if kind == "ReduceMean" else []
    y = b.levels(b.op(kind, b.levels("x"), *operands, **attributes), scale=0.04)
    shape = [1, 4, 5, 5] if kind == "AveragePool" else [1, 4, 1, 1]
    network = read_levels(b.finish({y: shape}, *SHAPE))
    assert kinds(network)[1:-1] == ["Pool" if kind == "AveragePool" else "GlobalAverage"]
    if kind == "AveragePool":
        pool = only(network, Pool)
        assert pool.result.multipliers.shape == (25,)
        assert sorted(set(pool.divisors.ravel().tolist())) == [4, 6, 9]
    else:
        [multiplier] = only(network, GlobalAverage).result.multipliers
        assert multiplier == np.float32(np.float64(np.float32(0.05)) / np.float32(0.04) / 36)


def test_hard_swish_in_pieces_is_one_table() -> None:
    def spell(b: QdqBuilder) -> str:
        x = b.levels("x")
        gate = b.levels(b.op("HardSigmoid", x, alpha=1 / 6, beta=0.5), scale=1 / 255, zero=0)
        return b.levels(b.op("Mul", x, gate), scale=0.04, zero=10)

    assert read_one(spell) == ["Lookup"]


@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("int8", "int8"), ("uint8", "int8")])
@pytest.mark.parametrize("kind", ["Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Exp", "Sqrt"])
def test_tables_hold_what_onnx_defines(kind: str, dtypes: tuple[str, str]) -> None:
    b = QdqBuilder()
    grids = [
        b.grid(dtype, scale=scale, zero=100 if dtype == "uint8" else 3)
        for dtype, scale in zip(dtypes, (0.05, 0.02), strict=True)
    ]
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", *grids[0]), *grids[0])
    y = b.op("DequantizeLinear", b.op("QuantizeLinear", b.op(kind, x), *grids[1]), *grids[1])
    network, fixed = read(b.finish({y: [16, 16]}, 16, 16))
    assert kinds(network) == ["Quantize", "Lookup", "Dequantize"]
    assert only(network, Lookup).table.dtype == dtypes[1]
    levels = np.arange(256).reshape(16, 16) - (100 if dtypes[0] == "uint8" else 131)
    inputs = {"x": (levels * 0.05).astype(np.float32)}
    expected = open_session(fixed, optimization="off").run(None, inputs)[0]
    found = run_network(network, inputs)[y]
    where = np.isfinite(expected) & ((levels >= 0) | (kind != "Sqrt"))  # a root of -1 is anything
    # A value next to a tie may fall to either side of it.
    assert np.abs(found - expected)[where].max() <= 0.0201
    assert (found != expected)[where].mean() < 0.02


def test_a_table_that_only_clips_vanishes_into_the_product_before_it() -> None:
    def spell(b: QdqBuilder) -> str:
        x = b.levels(product(b), scale=0.2)
        return b.levels(b.op("Relu", x), scale=0.2)

    assert read_one(spell) == ["Convolution"]


def test_quantizing_twice_to_one_grid_is_quantizing_once() -> None:
    b = QdqBuilder()
    y = b.levels(b.levels(b.levels("x")))
    assert kinds(read_levels(b.finish({y: SHAPE}, *SHAPE))) == INNER


def test_another_grid_takes_one_multiplication() -> None:
    b = QdqBuilder()
    network = read_levels(b.finish({b.levels(b.levels("x"), scale=0.2): SHAPE}, *SHAPE))
    assert kinds(network) == ["Quantize", "Rescale", "Dequantize"]
    assert only(network, Rescale).result.multipliers == np.float32(0.25)


def test_levels_may_be_the_inputs_and_outputs() -> None:
    b = QdqBuilder()
    grid = b.grid("uint8", scale=0.05, zero=100)
    y = b.op("Conv", b.op("DequantizeLinear", "x", *grid), b.stored(4, 4, 1, 1))
    y = b.op("QuantizeLinear", y, *b.grid("uint8", scale=0.2, zero=3))
    model = b.model({"x": SHAPE}, {y: SHAPE}, dtypes={"x": "uint8", y: "uint8"})
    network = read_levels(model)
    assert kinds(network) == ["Convolution"]
    assert network.tensors["x"].grid is not None


def test_what_has_no_integer_form_is_computed_in_float() -> None:
    def spell(b: QdqBuilder) -> str:
        return b.levels(b.op("Softmax", b.levels("x"), axis=-1), scale=1 / 255, zero=0)

    assert read_one(spell) == ["Dequantize", "Softmax", "Quantize"]


def test_weights_may_be_kept_as_floats_until_they_are_quantized() -> None:
    def spell(b: QdqBuilder) -> str:
        weights = b.levels(b.weight(4, 4, 3, 3), "int8", scale=0.01, zero=0)
        return b.levels(b.op("Conv", b.levels("x"), weights), scale=0.1)

    assert read_one(spell, (1, 4, 4, 4)) == ["Convolution"]


def test_products_over_lines_take_levels() -> None:
    b = QdqBuilder()
    y = b.op("Conv", b.levels("x"), b.stored(4, 4, 3), pads=[1, 1])
    network = read_levels(b.finish({b.levels(y, scale=0.2): [1, 4, 7]}, 1, 4, 7))
    assert kinds(network) == [*("Quantize", "Reshape", "Convolution", "Reshape", "Dequantize")]
    assert all(network.tensors[name].grid for name in network.operators[2].reads)


def test_weights_alone_may_be_quantized() -> None:
    b = QdqBuilder()
    y = b.op("Conv", "x", b.stored(4, 4, 3, 3))
    network = read_levels(b.finish({y: [1, 4, 4, 4]}, *SHAPE))
    assert kinds(network) == ["Convolution"]
    assert only(network, Convolution).weights.dtype == np.float32


def test_operators_on_levels_are_patterns_too() -> None:
    b = QdqBuilder()
    x, w, y = (
        b.grid(dtype, scale=scale, zero=zero)
        for dtype, scale, zero in (("uint8", 0.05, 100), ("int8", 0.01, 0), ("uint8", 0.2, 7))
    )
    # Without VNNI, onnxruntime adds pairs of larger products up in 16 bits, which saturate.
    weights = b.constant(b.rng.integers(-60, 61, (4, 4, 3, 3)).astype(np.int8))
    bias = b.constant(np.array([1, -2, 300, 4], np.int32))
    levels = b.op("QLinearConv", b.op("QuantizeLinear", "x", *x), *x, weights, *w, *y, bias)
    network = read_levels(b.finish({b.op("DequantizeLinear", levels, *y): [1, 4, 4, 4]}, *SHAPE))
    assert kinds(network) == ["Quantize", "Convolution", "Dequantize"]
    assert only(network, Convolution).bias.tolist() == [1, -2, 300, 4]


def test_dynamically_quantized_products_run_and_multiply_by_a_kernel_of_ours() -> None:
    b = QdqBuilder()
    outputs = ["levels", "scale", "zero"]
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], outputs, name="dynamic"))
    weights = b.constant(b.rng.integers(-60, 60, (16, 5)).astype(np.int8))
    product = b.op("MatMulInteger", "levels", weights, "zero", b.constant(np.int8(3)))
    scale = b.op("Mul", "scale", b.constant(np.float32(0.01)))
    y = b.op("Mul", b.op("Cast", product, to=1), scale)
    network, fixed = read(b.finish({y: [2, 5]}, 2, 16))
    assert kinds(network) == ["Region", "Dense", "Region"]
    inputs = random_inputs(network)
    expected = open_session(fixed, optimization="off").run(None, inputs)[0]
    np.testing.assert_allclose(run_network(network, inputs)[y], expected, rtol=1e-5)


def test_a_grid_that_readers_do_not_agree_on_is_left_to_them() -> None:
    b = QdqBuilder()
    levels = b.op("QuantizeLinear", "x", *b.grid("uint8", scale=0.05, zero=100))
    y = b.op("DequantizeLinear", levels, *b.grid("uint8", scale=0.1, zero=0))
    network, fixed = read(b.finish({y: SHAPE}, *SHAPE))
    assert kinds(network) == ["Quantize", "Region"]
    inputs = random_inputs(network)
    expected = open_session(fixed, optimization="off").run(None, inputs)[0]
    assert (run_network(network, inputs)[y] == expected).all()


def test_every_dequantized_output_says_its_grid() -> None:
    b = QdqBuilder()
    network = read_levels(b.finish({b.levels(product(b), scale=0.2, zero=5): SHAPE}, *SHAPE))
    [read_tensor] = only(network, Dequantize).reads
    grid = network.tensors[read_tensor].grid
    assert grid is not None
    assert (grid.scale, grid.zero_point) == (float(np.float32(0.2)), 5)
