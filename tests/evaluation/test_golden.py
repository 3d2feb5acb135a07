from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.canonical import sha256_tree
from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, TensorSpec
from edgekit.core.stage import StageContext
from edgekit.data.datasets.npz import Npz
from edgekit.data.source import Data
from edgekit.evaluation.golden import golden_inputs, read_golden, synthetic_inputs, write_golden
from edgekit.evaluation.predict import predict

MakeModel = Callable[..., ModelHandle]
MakeContext = Callable[..., StageContext]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    x = np.random.default_rng(3).standard_normal((60, 6)).astype(np.float32)
    np.savez(tmp_path / "points.npz", x=x, y=np.arange(60) % 3)
    return Data(dataset=Npz(path=str(tmp_path / "points.npz")))


def test_what_is_written_can_be_read(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    written = write_golden(onnx_model(), make_context(), tmp_path / "golden")
    read = read_golden(tmp_path / "golden")
    np.testing.assert_array_equal(read.inputs["x"], written.inputs["x"])
    np.testing.assert_array_equal(read.outputs["scores"], written.outputs["scores"])
    assert read.labels is None


def test_outputs_are_those_of_the_unoptimized_graph(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    model = onnx_model()
    golden = write_golden(model, make_context(), tmp_path / "golden")
    expected = predict(model, golden.inputs, optimize=False)
    np.testing.assert_array_equal(golden.outputs["scores"], expected["scores"])


def test_with_data_the_first_test_items_and_their_labels_are_taken(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path, data: Data
) -> None:
    golden = write_golden(onnx_model(), make_context(data=data), tmp_path / "golden", num_items=5)
    np.testing.assert_array_equal(golden.inputs["x"], data.test.inputs["x"][:5])
    assert read_golden(tmp_path / "golden").labels == tuple(data.test.labels[:5])


def test_no_more_items_are_taken_than_there_are(onnx_model: MakeModel, data: Data) -> None:
    chosen = golden_inputs(onnx_model(), data, num_items=1000)
    assert len(chosen.inputs["x"]) == len(data.test)
    assert not chosen.is_synthetic


def test_without_data_they_are_labelled_synthetic(onnx_model: MakeModel) -> None:
    assert golden_inputs(onnx_model(), None).is_synthetic


def test_equal_seeds_give_equal_bytes(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_golden(onnx_model(), make_context(seed=seed), tmp_path / name)
    digests = [sha256_tree(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_synthetic_values_are_valid_for_every_type() -> None:
    specs = (
        TensorSpec("image", "float32", (None, 3, 4)),
        TensorSpec("pixels", "uint8", (None, 50)),
        TensorSpec("steps", "int8", (None, 50)),
        TensorSpec("input_ids", "int64", (None, 6)),
        TensorSpec("flag", "bool", (None,)),
    )
    found = synthetic_inputs(specs, seed=0, num_items=20)
    for spec in specs:
        assert found[spec.name].shape == (20, *spec.shape[1:])
        assert found[spec.name].dtype == spec.dtype
    assert found["pixels"].max() > 200
    assert found["steps"].min() < -100
    assert set(np.unique(found["input_ids"])) == {0, 1}
    assert (found["input_ids"][:, 0] == 1).all()


def test_a_fixed_batch_does_not_bound_the_number_of_items() -> None:
    spec = TensorSpec("x", "float32", (1, 4))
    assert synthetic_inputs((spec,), seed=0, num_items=8)["x"].shape == (8, 4)


def test_a_model_that_overflows_gives_no_golden_outputs(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    model = onnx_model(np.full((6, 4), 3e38))
    with pytest.raises(StageError, match="the ONNX model on golden inputs"):
        write_golden(model, make_context(), tmp_path / "golden")


def test_data_that_does_not_fit_is_refused(onnx_model: MakeModel, data: Data) -> None:
    with pytest.raises(InputError, match=r"expected \[batch, 5\]"):
        golden_inputs(onnx_model(np.eye(5, 4)), data)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"golden\.json does not exist"):
        read_golden(tmp_path)
