from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelKind, TensorSpec
from edgekit.core.schema import Where, resolve_variant
from edgekit.core.stage import Stage, StageContext
from edgekit.data.datasets.npz import Npz
from edgekit.data.metrics.top_1 import Top1
from edgekit.data.source import Data
from edgekit.evaluation.predict import predict
from edgekit.sources.onnx import Onnx

WEIGHT = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def network(
    *,
    weight: NDArray[Any] = WEIGHT,
    batch: int | str | None = "N",
    opset: int = 18,
    nodes: list[onnx.NodeProto] | None = None,
    result: list[Any] | None = None,
) -> onnx.ModelProto:
    """Write `scores = x @ w`, with an input named as exporters of old did."""
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["input.1", "w"], ["scores"])],
        "torch-jit-export",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [batch, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, result or [batch, 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="other"
    )


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Onnx]:
    def write(model: onnx.ModelProto) -> Onnx:
        onnx.save(model, tmp_path / "net.onnx")
        return Onnx(onnx=str(tmp_path / "net.onnx"))

    return write


@pytest.fixture
def ctx(tmp_path: Path) -> StageContext:
    for name in ("work", "scratch"):
        (tmp_path / name).mkdir()
    return StageContext(workdir=tmp_path / "work", scratch=tmp_path / "scratch", cache_dir=tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    x = np.random.default_rng(3).standard_normal((60, 6)).astype(np.float32)
    np.savez(tmp_path / "points.npz", x=x, y=(x @ WEIGHT).argmax(axis=1))
    return Data(dataset=Npz(path=str(tmp_path / "points.npz")))


def with_data(ctx: StageContext, data: Data) -> StageContext:
    return StageContext(
        workdir=ctx.workdir,
        scratch=ctx.scratch,
        cache_dir=ctx.cache_dir,
        data=data,
        metric=Top1(),
    )


def test_it_is_a_stage_without_input_that_gives_onnx() -> None:
    source = Onnx(onnx="net.onnx")
    assert isinstance(source, Stage)
    assert source.accepts == frozenset()
    assert source.produces(None) is ModelKind.ONNX


def test_a_recipe_names_the_file_beside_itself(tmp_path: Path) -> None:
    found = resolve_variant({"onnx": {"onnx": "net.onnx"}}, "sources", Where(base=tmp_path))
    assert found == Onnx(onnx=str(tmp_path / "net.onnx"))


def test_a_file_becomes_a_model_that_computes_the_same(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    source = save(network())
    source.requires(None, ctx)
    result = source.run(None, ctx)
    source.ensures(None, result, ctx)
    model = result.model
    assert model.inputs == (TensorSpec("input.1", "float32", (None, 6)),)
    assert model.outputs == (TensorSpec("scores", "float32", (None, 4)),)
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    np.testing.assert_allclose(predict(model, {"x": x})["scores"], x @ WEIGHT, rtol=1e-5)
    assert {metric.name for metric in result.metrics} == {"params", "macs", "size_bytes"}
    assert result.details == {"opset": 18, "producer": "other"}
    assert result.warnings == ()
    assert [path.name for path in ctx.workdir.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("batch", "expected"), [("N", None), (None, None), (1, 1)])
def test_the_batch_is_open_or_fixed_as_in_the_file(
    save: Callable[..., Onnx], ctx: StageContext, batch: int | str | None, expected: int | None
) -> None:
    model = save(network(batch=batch)).run(None, ctx).model
    assert model.inputs[0].shape == (expected, 6)
    assert model.outputs[0].shape == (expected, 4)


def test_a_batch_fixed_to_more_than_one_is_refused(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    with pytest.raises(InputError, match=r"a batch fixed to 4.*devices run one sample at a time"):
        save(network(batch=4)).run(None, ctx)


def test_a_shape_the_file_leaves_open_is_found_by_running_it(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    model = save(network(result=["N", "classes"])).run(None, ctx).model
    assert model.outputs[0].shape == (None, 4)
    dims = onnx.load(ctx.workdir / "model.onnx").graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 4]


def test_a_single_input_is_named_as_the_data_and_measured(
    save: Callable[..., Onnx], ctx: StageContext, data: Data
) -> None:
    result = save(network(batch=1)).run(None, with_data(ctx, data))
    assert [spec.name for spec in result.model.inputs] == ["x"]
    assert onnx.load(ctx.workdir / "model.onnx").graph.input[0].name == "x"
    assert result.metrics[0].name == "top-1"
    assert result.metrics[0].value == 1.0
    assert result.model.labels == data.label_names


def test_constants_among_the_inputs_of_old_files_are_none(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 4]))
    assert len(save(model).run(None, ctx).model.inputs) == 1


def test_external_data_beside_the_file_becomes_part_of_it(
    tmp_path: Path, ctx: StageContext
) -> None:
    model = network()
    external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    (tmp_path / "model").mkdir()
    onnx.save(model, tmp_path / "model" / "net.onnx")
    result = Onnx(onnx=str(tmp_path / "model" / "net.onnx")).run(None, ctx)
    (tmp_path / "model" / "w.bin").unlink()
    found = predict(result.model, {"x": np.eye(6, dtype=np.float32)})["scores"]
    np.testing.assert_allclose(found, WEIGHT, rtol=1e-6)


def test_external_data_outside_the_folder_is_refused(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(InputError, match="expected a file beside the model"):
        save(model).run(None, ctx)


def test_a_truncated_file_is_refused(save: Callable[..., Onnx], ctx: StageContext) -> None:
    source = save(network())
    content = Path(source.onnx).read_bytes()
    Path(source.onnx).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="truncated"):
        source.run(None, ctx)


def test_a_missing_file_is_named(ctx: StageContext) -> None:
    with pytest.raises(InputError, match=r"model file nowhere\.onnx does not exist"):
        Onnx(onnx="nowhere.onnx").requires(None, ctx)


def test_an_old_opset_is_refused(save: Callable[..., Onnx], ctx: StageContext) -> None:
    with pytest.raises(InputError, match="found opset 9, expected at least 11"):
        save(network(opset=9)).run(None, ctx)


def test_nan_weights_are_refused(save: Callable[..., Onnx], ctx: StageContext) -> None:
    weight = WEIGHT.copy()
    weight[2, 2] = np.nan
    with pytest.raises(InputError, match="tensor 'w': found 1 of 24 values NaN"):
        save(network(weight=weight)).run(None, ctx)


def test_a_model_that_overflows_is_refused(save: Callable[..., Onnx], ctx: StageContext) -> None:
    with pytest.raises(StageError, match="values NaN or infinite"):
        save(network(weight=np.full((6, 4), 3e38, np.float32))).run(None, ctx)


def test_an_output_that_is_not_one_row_per_item_is_refused(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    nodes = [
        helper.make_node("MatMul", ["input.1", "w"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["scores"], keepdims=0),
    ]
    with pytest.raises(InputError, match=r"output 'scores': found shape \[\] for 2 items"):
        save(network(nodes=nodes, result=[])).run(None, ctx)


def test_inputs_of_unequal_batches_are_refused(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    model = network(batch=2, nodes=[helper.make_node("Add", ["product", "y"], ["scores"])])
    model.graph.node.insert(0, helper.make_node("MatMul", ["input.1", "w"], ["product"]))
    model.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]))
    with pytest.raises(InputError, match=r"found inputs of shapes \[2, 6\], \[1, 4\]"):
        save(model).run(None, ctx)


def test_data_of_another_shape_is_refused(
    save: Callable[..., Onnx], ctx: StageContext, tmp_path: Path
) -> None:
    np.savez(tmp_path / "wide.npz", x=np.zeros((60, 7), np.float32), y=np.arange(60) % 4)
    data = Data(dataset=Npz(path=str(tmp_path / "wide.npz")))
    with pytest.raises(InputError, match=r"\[N, 7\] float32, expected \[N, 6\] float32"):
        save(network()).run(None, with_data(ctx, data))


def test_a_name_that_is_taken_inside_the_model_is_refused(
    save: Callable[..., Onnx], ctx: StageContext, data: Data
) -> None:
    nodes = [
        helper.make_node("MatMul", ["input.1", "w"], ["x"]),
        helper.make_node("Relu", ["x"], ["scores"]),
    ]
    with pytest.raises(InputError, match="found 'x' in use inside the model"):
        save(network(nodes=nodes)).run(None, with_data(ctx, data))


def test_a_model_that_does_not_run_is_refused(save: Callable[..., Onnx], ctx: StageContext) -> None:
    nodes = [
        helper.make_node("MatMul", ["input.1", "w"], ["product"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[5, 7]),
        helper.make_node("Reshape", ["product", "shape"], ["scores"]),
    ]
    with pytest.raises(InputError, match=r"running the ONNX graph: found .*[Rr]eshape"):
        save(network(nodes=nodes, result=["N", 7])).run(None, ctx)


def quantized_network() -> onnx.ModelProto:
    """Write a QDQ product whose scales put every odd sum half-way between two steps.

    Computed in floats the sums fall to either side; fused to integers they round to even.
    """
    scalars = {"sx": np.float32(0.1), "sw": np.float32(0.1), "sy": np.float32(0.02)}
    zeros = {"z": np.uint8(128), "zw": np.int8(0)}
    weight = np.random.default_rng(0).integers(-3, 4, (6, 4)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["input.1", "sx", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "z"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["real"]),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "sy", "z"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "sy", "z"], ["scores"]),
    ]
    model = network(nodes=nodes, weight=weight)
    for name, value in {**scalars, **zeros}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return model


def test_an_int8_model_that_differs_under_optimization_is_warned_of(
    save: Callable[..., Onnx], ctx: StageContext
) -> None:
    source = save(quantized_network())
    result = source.run(None, ctx)
    (warning,) = result.warnings
    assert warning.startswith("onnxruntime gives other outputs with its optimizations than without")
    source.ensures(None, result, ctx)
