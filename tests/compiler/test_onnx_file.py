from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.compiler.onnx_file import (
    has_qdq,
    input_specs,
    load_onnx,
    output_specs,
    save_onnx,
    set_sizes,
    specialise,
)
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from tests.compiler import onnx_models


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def first_weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(item for item in model.graph.initializer if len(item.dims) > 1)


def make_external(tensor: onnx.TensorProto, **entries: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def test_good_model_survives_saving_and_loading(tmp_path: Path) -> None:
    model = onnx_models.residual_cnn()
    save_onnx(model, tmp_path / "model.onnx")
    assert load_onnx(tmp_path / "model.onnx") == model


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        save_onnx(onnx_models.mlp(), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_external_data_beside_the_model_is_read_into_it(tmp_path: Path) -> None:
    model = onnx_models.mlp()
    weight = first_weight(model)
    values = numpy_helper.to_array(weight)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16 + values.tobytes())
    make_external(weight, location="weights.bin", offset="16", length=str(values.nbytes))
    loaded = load_onnx(write(tmp_path / "m.onnx", model))
    np.testing.assert_array_equal(numpy_helper.to_array(first_weight(loaded)), values)
    save_onnx(loaded, tmp_path / "one.onnx")
    (tmp_path / "weights.bin").unlink()
    assert load_onnx(tmp_path / "one.onnx") == loaded


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "", "link"])
def test_external_data_cannot_leave_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    (folder / "link").symlink_to(tmp_path / "secret")
    model = onnx_models.mlp()
    make_external(first_weight(model), location=location)
    with pytest.raises(InputError, match="expected a file beside the model"):
        load_onnx(write(folder / "m.onnx", model))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "missing.bin"}, "missing.bin"),
        ({"location": "short.bin"}, "bytes inside the file"),
        ({"location": "long.bin", "offset": "-4"}, "bytes inside the file"),
        ({"location": "long.bin", "length": "8"}, "bytes inside the file"),
        ({"location": "long.bin", "offset": "many"}, "long.bin"),
        ({"location": "folder"}, "folder"),
    ],
)
def test_external_data_that_does_not_fit_is_refused(
    tmp_path: Path, entries: dict[str, str], message: str
) -> None:
    (tmp_path / "short.bin").write_bytes(b"\0" * 8)
    (tmp_path / "long.bin").write_bytes(b"\0" * 100_000)
    (tmp_path / "folder").mkdir()
    model = onnx_models.mlp()
    make_external(first_weight(model), **entries)
    with pytest.raises(InputError, match=message):
        load_onnx(write(tmp_path / "m.onnx", model))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.onnx: found No such file"):
        load_onnx(tmp_path / "nothing.onnx")


def test_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no regular file"):
        load_onnx(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    data = onnx_models.residual_cnn().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"expected an ONNX model|may be truncated"):
        load_onnx(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a model", bytes(range(256)) * 8])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected an ONNX model"):
        load_onnx(path)


def _claim_ten_gigabytes(model: onnx.ModelProto) -> None:
    del first_weight(model).dims[:]
    next(item for item in model.graph.initializer if not item.dims).dims.extend([50_000, 50_000])


def _claim_more_than_stored(model: onnx.ModelProto) -> None:
    first_weight(model).dims[0] *= 2


def _negative_size(model: onnx.ModelProto) -> None:
    first_weight(model).dims[0] = -1


def _string_operand(model: onnx.ModelProto) -> None:
    first_weight(model).data_type = TensorProto.BFLOAT16


def _huge_input(model: onnx.ModelProto) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 1 << 20


def _foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "some.vendor"


def _future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _sequence_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def _complex_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.COMPLEX64


def _dangling_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nobody"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_claim_ten_gigabytes, "10000000000 bytes, expected at most 2 GiB"),
        (_claim_more_than_stored, "bytes of data, expected"),
        (_negative_size, "expected sizes from 0 on"),
        (_string_operand, "found BFLOAT16"),
        (_huge_input, "expected at most 2 GiB per tensor"),
        (_foreign_operator, r"operator some\.vendor\.Gemm at 'node_gemm_0'"),
        (_future_opset, "found opset 999"),
        (_sequence_input, "found sequence_type, expected a tensor"),
        (_complex_input, "found element type 14"),
        (_dangling_input, "nobody"),
    ],
)
def test_hostile_model_is_refused(
    tmp_path: Path, damage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx_models.mlp()
    damage(model)
    with pytest.raises(InputError, match=message):
        load_onnx(write(tmp_path / "m.onnx", model))


def test_giant_tensor_inside_an_operator_is_seen(tmp_path: Path) -> None:
    model = onnx_models.mlp()
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    value.dims[:] = [1 << 20, 1 << 20]
    node = helper.make_node("Constant", [], ["big"])
    node.attribute.append(helper.make_attribute("value", value))
    model.graph.node.insert(0, node)
    with pytest.raises(InputError, match="at most 2 GiB"):
        load_onnx(write(tmp_path / "m.onnx", model))


def test_giant_intermediate_is_refused_before_anything_runs() -> None:
    b = onnx_models.GraphBuilder()
    shape = b.constant(np.array([1 << 16, 1 << 16]))
    x = b.op("Add", b.op("ConstantOfShape", shape), "x")
    with pytest.raises(InputError, match="at most 2 GiB per tensor"):
        specialise(b.model({"x": [1]}, {x: [1 << 16, 1 << 16]}))


def test_file_above_two_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: no disk is used
    with pytest.raises(InputError, match="expected at most 2 GiB"):
        load_onnx(path)


def test_specs_leave_the_batch_open() -> None:
    model = onnx_models.residual_cnn()
    assert input_specs(model) == (TensorSpec("image", "float32", (None, 1, 14, 14)),)
    assert output_specs(model)[0].shape == (None, 10)


def test_specialised_model_has_a_batch_of_one() -> None:
    model = specialise(onnx_models.residual_cnn())
    assert input_specs(model)[0].shape == (1, 1, 14, 14)
    assert output_specs(model)[0].shape == (1, 10)


def test_specialising_leaves_the_original_alone() -> None:
    model = onnx_models.residual_cnn()
    before = model.SerializeToString()
    specialise(model)
    assert model.SerializeToString() == before


def test_open_inner_size_is_asked_for_by_name() -> None:
    b = onnx_models.GraphBuilder()
    model = b.model({"tokens": ["batch", "sequence"]}, {b.op("Relu", "tokens"): ["batch", "s"]})
    with pytest.raises(InputError, match="open size 'sequence' at axis 1"):
        specialise(model)
    fixed = specialise(model, {"sequence": 16})
    assert input_specs(fixed)[0].shape == output_specs(fixed)[0].shape == (1, 16)


def test_unnamed_open_size_is_asked_for_by_axis() -> None:
    b = onnx_models.GraphBuilder()
    model = b.model({"x": [1, 4]}, {b.op("Relu", "x"): [1, 4]})
    model.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    with pytest.raises(InputError, match="open size axis 1"):
        input_specs(model)


def test_size_zero_is_refused() -> None:
    b = onnx_models.GraphBuilder()
    model = b.model({"x": [1, 0]}, {b.op("Relu", "x"): [1, 0]})
    with pytest.raises(InputError, match="size 0 at axis 1"):
        specialise(model)
    with pytest.raises(InputError, match="size 0 at axis 1"):
        input_specs(model)


def test_unknown_rank_is_refused() -> None:
    b = onnx_models.GraphBuilder()
    model = b.model({"x": [1]}, {b.op("Relu", "x"): [1]})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="'x': found no shape"):
        input_specs(model)


def test_shapes_that_contradict_each_other_are_refused() -> None:
    b = onnx_models.GraphBuilder()
    x = b.op("MatMul", "x", b.weight(5, 3))
    model = b.model({"x": [1, 5]}, {x: [1, 3]})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    with pytest.raises(InputError, match="inferring the shapes"):
        specialise(model)


def test_int8_model_is_recognised() -> None:
    assert not has_qdq(onnx_models.mlp())
    assert has_qdq(onnx_models.quantized(onnx_models.mlp(), (4, 20)))


def test_open_sizes_are_fixed_by_name() -> None:
    builder = onnx_models.GraphBuilder()
    result = builder.conv("x", (3, 8))
    shape = ["n", "height", "width"]
    model = builder.model({"x": [shape[0], 3, *shape[1:]]}, {result: [shape[0], 8, *shape[1:]]})
    set_sizes(model, {"height": 24, "width": 20})
    assert input_specs(specialise(model))[0].shape == (1, 3, 24, 20)
    with pytest.raises(InputError, match=r"size 'hight'.*'height'|size 'hight'.*open sizes n"):
        set_sizes(model, {"hight": 24})
