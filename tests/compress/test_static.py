from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.arithmetic.affine import UINT8, dequantize, grid_from_range, quantize, weight_grid
from edgekit.compress.quant.audit import audit
from edgekit.compress.quant.backend import Quantized
from edgekit.compress.quant.backends.onnxruntime import Onnxruntime
from edgekit.compress.quant.calibration import Calibration, batches_of
from edgekit.compress.quant.graph import output_steps
from edgekit.compress.quant.observer import Observer
from edgekit.compress.quant.observers.min_max import MinMax
from edgekit.core.errors import InputError
from edgekit.core.registry import registry
from tests.compress.graphs import (
    Array,
    GraphBuilder,
    attention_net,
    constants_of,
    images,
    mixed_net,
    run,
)

OBSERVERS = registry("observers").names()
BACKENDS = registry("backends").names()
Int8 = Callable[..., Quantized]


@pytest.fixture
def int8(tmp_path: Path) -> Int8:
    """Quantize a graph with the data given, min-max ranges unless another observer is named."""

    def make(
        model: onnx.ModelProto,
        data: dict[str, Array],
        *,
        backend: Onnxruntime | None = None,
        observer: Observer | None = None,
        ignored: tuple[str, ...] = (),
    ) -> Quantized:
        onnx.save(model, tmp_path / "float.onnx")
        num_samples = len(next(iter(data.values())))
        setup = Calibration(
            batches=batches_of(data, np.arange(num_samples), fixed_batch=None),
            observer=observer or MinMax(),
        )
        chosen = backend or Onnxruntime()
        return chosen.quantize(tmp_path / "float.onnx", tmp_path, setup, ignored=ignored)

    return make


def snr_db(reference: Array, other: Array) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - other).sum()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_operator_with_an_integer_form_becomes_integer(int8: Int8, backend: str) -> None:
    found = audit(
        int8(mixed_net(), {"image": images()}, backend=registry("backends").get(backend)()).model
    )
    assert found.integer_ops == {
        "Add": 1,
        "Concat": 1,
        "Conv": 5,
        "Gemm": 1,
        "GlobalAveragePool": 1,
    }
    assert found.float_ops == {}
    assert found.violations == ()


@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_observer_keeps_the_signal(int8: Int8, observer: str) -> None:
    model, x = mixed_net(), images()
    found = int8(model, {"image": x}, observer=registry("observers").get(observer)())
    # 8 bits through 6 layers: 20 to 30 dB; a wrong scale anywhere leaves less than 10.
    assert snr_db(run(model, {"image": x}), run(found.model, {"image": x})) > 18


def test_onnxruntimes_integer_kernels_agree_with_the_graph_within_a_step(int8: Int8) -> None:
    found = int8(mixed_net(), {"image": images()}).model
    off, on = (run(found, {"image": images()}, optimize=optimize) for optimize in (False, True))
    # Each layer may round a tie the other way, which later layers pass on.
    assert np.abs(off - on).max() <= 2.01 * output_steps(found)["scores"]


def test_the_input_is_quantized_first_and_the_output_last(int8: Int8) -> None:
    graph = int8(mixed_net(), {"image": images()}).model.graph
    readers = [node.op_type for node in graph.node if "image" in node.input]
    assert readers == ["QuantizeLinear"]
    assert [n.op_type for n in graph.node if "scores" in n.output] == ["DequantizeLinear"]


def test_a_reshape_in_front_does_not_keep_the_input_in_float(int8: Int8) -> None:
    b = GraphBuilder()
    b.linear("scores", b.op("Flatten", "flat", "image", axis=1), 128, 5)
    model = b.model({"image": ["batch", 2, 8, 8]}, {"scores": ["batch", 5]})
    graph = int8(model, {"image": images()}).model.graph
    assert [n.op_type for n in graph.node if "image" in n.input] == ["QuantizeLinear"]


def test_weights_are_those_of_the_numpy_reference(int8: Int8) -> None:
    model = mixed_net()
    floats, levels = constants_of(model), constants_of(int8(model, {"image": images()}).model)
    for name in ("stem", "depthwise", "scores"):
        grid = weight_grid(floats[f"{name}.weight"])
        expected = quantize(floats[f"{name}.weight"], grid)
        found = levels[f"{name}.weight_quantized"]
        assert found.dtype == np.int8
        assert np.array_equal(found, expected)
        np.testing.assert_array_equal(levels[f"{name}.weight_scale"], grid.scale)


def test_activations_are_those_of_the_numpy_reference(int8: Int8) -> None:
    x = images()
    levels = constants_of(int8(mixed_net(), {"image": x}).model)
    grid = grid_from_range(x.min(), x.max(), UINT8)
    assert levels["image_scale"] == pytest.approx(float(grid.scale), rel=1e-6)
    assert levels["image_zero_point"] == grid.zero_point


def test_grid_points_are_fixed_points(int8: Int8) -> None:
    b = GraphBuilder()
    b.op("Add", "sum", "x", b.constant("nothing", np.zeros(1, np.float32)))
    model = b.model({"x": ["batch", 4]}, {"sum": ["batch", 4]})
    x = np.linspace(-1, 3, 64, dtype=np.float32).reshape(16, 4)
    found = int8(model, {"x": x}).model
    once = run(found, {"x": x})
    assert np.array_equal(run(found, {"x": once}), once)
    grid = grid_from_range(-1.0, 3.0, UINT8)
    np.testing.assert_allclose(once, dequantize(quantize(x, grid), grid), atol=1e-6)


def test_biases_are_int32_on_the_grid_of_the_sum(int8: Int8) -> None:
    levels = constants_of(int8(mixed_net(), {"image": images()}).model)
    scale = levels["image_scale"] * levels["stem.weight_scale"]
    bias = constants_of(mixed_net())["stem.bias"]
    found = next(
        values
        for name, values in levels.items()
        if name.startswith("stem.bias") and values.dtype == np.int32 and values.any()
    )
    assert np.abs(found - bias / scale).max() <= 0.51


def test_one_scale_per_tensor_where_asked(int8: Int8) -> None:
    backend = Onnxruntime(weights="per-tensor")
    levels = constants_of(int8(mixed_net(), {"image": images()}, backend=backend).model)
    assert levels["stem.weight_scale"].size == 1
    assert audit(int8(mixed_net(), {"image": images()}, backend=backend).model).violations == ()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("body", {"body": "Conv"}),
        ("l?ft", {"left": "Conv"}),
        ("Gemm", {"scores": "Gemm"}),
    ],
)
def test_what_is_ignored_stays_float(int8: Int8, pattern: str, expected: dict[str, str]) -> None:
    found = audit(int8(mixed_net(), {"image": images()}, ignored=(pattern,)).model)
    assert found.float_ops == expected
    assert found.violations == ()


def test_an_unknown_pattern_offers_the_nearest_name(int8: Int8) -> None:
    with pytest.raises(InputError, match=r"matches 'bdoy'.*Did you mean 'body'"):
        int8(mixed_net(), {"image": images()}, ignored=("bdoy",))


def test_ignoring_everything_is_refused(int8: Int8) -> None:
    with pytest.raises(InputError, match=r"no operator that could become integer.*List less"):
        int8(mixed_net(), {"image": images()}, ignored=("*",))


def test_an_activation_disappears_into_the_grid_in_front_of_it(int8: Int8) -> None:
    model, x = mixed_net(), images()
    graph = int8(model, {"image": x}).model
    assert not {"Relu", "Clip"} & {node.op_type for node in graph.graph.node}
    assert constants_of(graph)["stem_relu_zero_point"] == 0


def test_a_clip_away_from_zero_is_kept(int8: Int8) -> None:
    b = GraphBuilder()
    low, high = (b.constant(n, np.float32(v)) for n, v in (("low", 0.5), ("high", 2.0)))
    b.op("Clip", "clip", b.conv("conv", "image", 2, 4), low, high)
    model = b.model({"image": ["batch", 2, 8, 8]}, {"clip": ["batch", 4, 8, 8]})
    found = int8(model, {"image": images()}).model
    assert "Clip" in {node.op_type for node in found.graph.node}
    assert run(found, {"image": images()}).min() >= 0.5


def test_a_mask_keeps_its_sum_in_float_and_says_so(int8: Int8) -> None:
    x = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
    mask = np.where(np.arange(6) < 4, 0, -3e38).astype(np.float32)
    data = {"x": x, "mask": np.tile(mask, (32, 1))}
    model = attention_net()
    found = int8(model, data)
    assert found.kept_float == ("masked",)
    checked = audit(found.model)
    assert checked.integer_ops == {"MatMul": 2, "Mul": 1}
    assert checked.float_ops == {"masked": "Add", "weights": "Softmax"}
    assert snr_db(run(model, data), run(found.model, data)) > 20


def test_only_products_with_constants_where_asked(int8: Int8) -> None:
    backend = Onnxruntime(operators="weighted")
    found = audit(int8(mixed_net(), {"image": images()}, backend=backend).model)
    # The sum lies between integer convolutions, so nothing keeps an engine from adding levels.
    assert found.integer_ops == {"Add": 1, "Conv": 5, "Gemm": 1}
    assert set(found.float_ops.values()) == {"Concat", "GlobalAveragePool"}


def test_a_channel_that_is_always_zero_is_no_obstacle(int8: Int8) -> None:
    b = GraphBuilder()
    x = b.conv("conv", "image", 2, 4)
    b.op("GlobalAveragePool", "pool", x)
    model = b.model({"image": ["batch", 2, 8, 8]}, {"pool": ["batch", 4, 1, 1]})
    weight = next(t for t in model.graph.initializer if t.name == "conv.weight")
    values = constants_of(model)["conv.weight"].copy()
    values[1] = 0.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "conv.weight"))
    found = int8(model, {"image": images()}).model
    assert audit(found).violations == ()
    assert np.isfinite(run(found, {"image": images()})).all()


def test_the_same_data_give_the_same_bytes(int8: Int8) -> None:
    first, second = (
        int8(mixed_net(), {"image": images()}).model.SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second
