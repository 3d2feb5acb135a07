from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import numpy as np
import onnx
import pytest

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_struct
from edgekit.core.stage import Stage, StageContext, StageResult
from edgekit.data.source import Data
from edgekit.data.splits import SplitSpec
from edgekit.stages.quantize import Quantize
from tests.compress.graphs import GraphBuilder, constants_of

Context = Callable[..., StageContext]


@pytest.fixture
def model(context: Context) -> ModelHandle:
    """A convolutional classifier of 8x8 digits whose last layer was fitted by least squares."""
    return _save(context, batch="batch")


def _save(context: Context, *, batch: int | str) -> ModelHandle:
    ctx = context(folder=f"float-{batch}")
    b = GraphBuilder()
    x = b.op("Relu", "relu1", b.conv("conv1", "image", 1, 8))
    x = b.op("MaxPool", "pool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.op("Relu", "relu2", b.op("Add", "sum", b.conv("conv2", x, 8, 8), x))
    features = b.op("Flatten", "features", x, axis=1)
    inputs = {"image": [batch, 1, 8, 8]}
    if batch == "batch":
        weight = _fit(b.model(inputs, {features: [batch, 128]}), ctx)
    else:
        weight = np.ones((10, 128), np.float32)
    b.op("Gemm", "head", features, b.constant("head.weight", weight), transB=1)
    graph = b.model(inputs, {"head": [batch, 10]})
    onnx.save(graph, ctx.workdir / "model.onnx")
    size = None if batch == "batch" else int(batch)
    return ModelHandle(
        ModelKind.ONNX,
        ctx.workdir,
        (TensorSpec("image", "float32", (size, 1, 8, 8)),),
        (TensorSpec("head", "float32", (size, 10)),),
    )


def _fit(graph: onnx.ModelProto, ctx: StageContext) -> np.ndarray:
    from tests.compress.graphs import run

    assert ctx.data is not None
    split = ctx.data.train
    features = run(graph, {"image": split.inputs["image"]})
    wanted = np.eye(10, dtype=np.float32)[split.labels]
    ridge = features.T @ features + 10 * np.eye(128)
    found: np.ndarray = np.linalg.solve(ridge, features.T @ wanted).T.astype(np.float32)
    return found


def stage(**options: object) -> Quantize:
    return resolve_struct(options, Quantize, Where("recipe"))


def drive(chosen: Quantize, model: ModelHandle, ctx: StageContext) -> StageResult:
    chosen.requires(model, ctx)
    result = chosen.run(model, ctx)
    chosen.ensures(model, result, ctx)
    return result


def value(result: StageResult, name: str) -> float:
    return next(metric.value for metric in result.metrics if metric.name == name)


def test_keeps_its_contract() -> None:
    chosen = stage()
    assert isinstance(chosen, Stage)
    assert chosen.produces(ModelKind.ONNX) is ModelKind.ONNX
    assert stage(search="neural-compressor").produces(ModelKind.TORCH) is ModelKind.ONNX


@pytest.mark.parametrize("observer", registry("observers").names())
def test_every_observer_gives_an_integer_model_that_still_classifies(
    model: ModelHandle, context: Context, observer: str
) -> None:
    result = drive(stage(observer=observer), model, context())
    assert value(result, "top-1") > 0.85
    assert value(result, "float_ops") == 0
    found = result.details
    assert found["integer_ops"] == {"Add": 1, "Conv": 2, "Gemm": 1}
    assert abs(found["drop"]) <= 0.03
    assert found["parity_to_float"]["snr_db"] > 15
    assert found["parity_to_float"]["top1_agreement"] > 0.95
    # Ties may round the other way in integer kernels; what it must not do is saturate.
    assert found["optimizations"]["max_steps"]["head"] <= 2.01
    assert result.warnings == ()
    json.dumps(msgspec.to_builtins(found))


def test_weights_are_stored_as_int8_within_127(model: ModelHandle, context: Context) -> None:
    result = drive(stage(), model, context())
    constants = constants_of(onnx.load(result.model.path / "model.onnx"))
    weights = [values for name, values in constants.items() if name.endswith("weight_quantized")]
    assert len(weights) == 3
    for values in weights:
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() == 127
    assert not [v for v in constants.values() if v.dtype == np.float32 and v.ndim > 1]


def test_labels_and_signature_travel_on(model: ModelHandle, context: Context) -> None:
    named = msgspec.structs.replace(model, labels=tuple("0123456789"))
    result = drive(stage(), named, context())
    assert (result.model.inputs, result.model.outputs) == (model.inputs, model.outputs)
    assert result.model.labels == named.labels


def test_a_subset_is_chosen_by_the_seed(model: ModelHandle, context: Context) -> None:
    def scale(folder: str, **options: object) -> float:
        result = drive(stage(subset_size=8, **options), model, context(folder=folder))
        assert result.details["num_calibration"] == 8
        return float(constants_of(onnx.load(result.model.path / "model.onnx"))["relu2_scale"])

    assert scale("a", seed=1) == scale("b", seed=1)
    assert scale("c", seed=1) != scale("d", seed=2)


def test_the_same_data_give_the_same_bytes(model: ModelHandle, context: Context) -> None:
    one, two = (drive(stage(), model, context(folder=name)).model.path for name in ("a", "b"))
    assert (one / "model.onnx").read_bytes() == (two / "model.onnx").read_bytes()


def test_a_batch_that_the_model_fixes_is_obeyed(context: Context) -> None:
    result = drive(stage(), _save(context, batch=4), context())
    assert result.model.inputs[0].shape == (4, 1, 8, 8)


def test_what_is_ignored_stays_float_and_is_reported(model: ModelHandle, context: Context) -> None:
    result = drive(stage(ignored=["head"]), model, context())
    assert result.details["float_ops"] == {"head": "Gemm"}
    assert result.warnings == ()


def test_an_unknown_ignored_name_offers_the_nearest(model: ModelHandle, context: Context) -> None:
    with pytest.raises(InputError, match=r"matches 'haed'.*Did you mean 'head'"):
        stage(ignored=["haed"]).run(model, context())


def test_a_drop_beyond_the_goal_is_a_warning(model: ModelHandle, context: Context) -> None:
    chosen = stage(observer={"percentile": {"percent": 60}}, max_drop=0)
    (warning,) = drive(chosen, model, context()).warnings
    assert "top-1 fell from" in warning
    assert "max_drop 0" in warning


def test_int8_without_data_is_refused_at_plan_time(model: ModelHandle, context: Context) -> None:
    with pytest.raises(InputError, match="int8 is never calibrated on random input"):
        stage().check(None, has_data=False)
    with pytest.raises(InputError, match="int8 is never calibrated on random input"):
        stage().requires(model, context(data=None, metric=None))


def test_an_empty_calibration_split_is_refused(model: ModelHandle, context: Context) -> None:
    data = Data(
        dataset=registry("datasets").get("digits")(),
        split=SplitSpec(train=1000, validation=200, calibration=0, test=300),
        preprocess=(registry("preprocess").get("to-float")(scale=16.0),),
    )
    with pytest.raises(InputError, match="the calibration split is needed here and is empty"):
        stage().requires(model, context(data=data))


def test_a_subset_larger_than_the_split_is_refused(model: ModelHandle, context: Context) -> None:
    with pytest.raises(InputError, match=r"found 50 samples, expected at least 51.*subset_size"):
        stage(subset_size=51).requires(model, context())


def test_data_of_another_shape_is_refused(model: ModelHandle, context: Context) -> None:
    other = msgspec.structs.replace(
        model, inputs=(TensorSpec("image", "float32", (None, 3, 8, 8)),)
    )
    with pytest.raises(InputError, match=r"input 'image' of the model: found data of shape"):
        stage().requires(other, context())


def test_qat_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"not available yet: expected ptq.*neural-compressor"):
        stage(mode="qat")


def test_a_torch_model_needs_an_export_or_a_search() -> None:
    with pytest.raises(InputError, match=r"found a torch model.*Put an `export` stage before it"):
        stage().produces(ModelKind.TORCH)


def test_a_search_takes_the_torch_model() -> None:
    with pytest.raises(InputError, match=r"found an ONNX model.*Remove the `export` stage"):
        stage(search="neural-compressor").produces(ModelKind.ONNX)


def test_a_model_that_is_int8_already_is_refused(model: ModelHandle, context: Context) -> None:
    result = drive(stage(), model, context(folder="first"))
    with pytest.raises(InputError, match="It is quantized already"):
        stage().run(result.model, context(folder="second"))


def test_an_unknown_observer_offers_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown observer 'min-mix'.*Did you mean 'min-max'"):
        stage(observer="min-mix")


def damaged(result: StageResult, change: Callable[[onnx.ModelProto], None]) -> None:
    path = result.model.path / "model.onnx"
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)


def test_a_weight_beyond_its_levels_breaks_the_promise(
    model: ModelHandle, context: Context
) -> None:
    ctx = context()
    result = stage().run(model, ctx)

    def change(graph: onnx.ModelProto) -> None:
        tensor = next(t for t in graph.graph.initializer if t.name == "conv1.weight_quantized")
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = -128
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    damaged(result, change)
    with pytest.raises(StageError, match=r"'conv1\.weight_quantized' holds levels beyond"):
        stage().ensures(model, result, ctx)


def test_a_float_model_in_its_place_breaks_the_promise(
    model: ModelHandle, context: Context
) -> None:
    ctx = context()
    result = stage().run(model, ctx)
    (result.model.path / "model.onnx").write_bytes((model.path / "model.onnx").read_bytes())
    with pytest.raises(StageError, match="no operator that can run on integers"):
        stage().ensures(model, result, ctx)


def test_another_signature_breaks_the_promise(model: ModelHandle, context: Context) -> None:
    ctx = context()
    result = stage().run(model, ctx)
    other = msgspec.structs.replace(model, outputs=(TensorSpec("logits", "float32", (None, 10)),))
    with pytest.raises(StageError, match="found image, head, expected image, logits"):
        stage().ensures(other, result, ctx)


@pytest.mark.slow
def test_a_search_ends_with_an_integer_model_within_the_goal(context: Context) -> None:
    from edgekit.sources.architecture import Architecture
    from edgekit.stages.train import Train

    options = registry("architectures").get("resnet8")(width=4, image_size=8)
    fresh = Architecture(architecture="resnet8", options=options)
    source = fresh.run(None, context(folder="source")).model
    trained = Train(epochs=3, batch_size=32).run(source, context(folder="train")).model
    chosen = stage(search="neural-compressor", max_drop=0.03, subset_size=32)
    result = drive(chosen, trained, context())
    assert result.model.kind is ModelKind.ONNX
    assert value(result, "float_ops") == 0
    assert result.details["search"]["goal_met"]
    assert result.details["search"]["chosen"]["drop"] <= 0.03
    assert abs(result.details["drop"]) < 0.06
