from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.data.portable import FILE, Preprocessing, read_preprocessing, write_preprocessing

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


STEPS: list[object] = [{"to-float": {"scale": 255}}, {"normalize": {"mean": [0.5], "std": [0.25]}}]
Write = Callable[..., Path]
RAW = (TensorSpec("image", "uint8", (None, 1, 2, 2)),)


@pytest.fixture
def write(resolve: Resolve, tmp_path: Path) -> Write:
    def run(steps: list[object] = STEPS, raw: tuple[TensorSpec, ...] = RAW) -> Path:
        write_preprocessing(
            tmp_path / "bundle",
            raw_inputs=raw,
            inputs=(TensorSpec("image", "float32", (None, 1, 2, 2)),),
            steps=[resolve("preprocess", step) for step in steps],
            labels=("cat", "dog"),
        )
        return tmp_path / "bundle"

    return run


@pytest.fixture
def preprocessing(write: Write) -> Preprocessing:
    return read_preprocessing(write())


def test_the_chain_survives_the_trip(write: Write, resolve: Resolve) -> None:
    found = read_preprocessing(write())
    assert found.steps == tuple(resolve("preprocess", step) for step in STEPS)
    assert found.labels == ("cat", "dog")
    assert found.raw_inputs == RAW
    batch = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    expected = (batch / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    np.testing.assert_array_equal(found.apply({"image": batch})["image"], expected)


def test_writing_twice_gives_the_same_bytes(write: Write) -> None:
    first = (write() / FILE).read_bytes()
    assert (write() / FILE).read_bytes() == first


def test_lists_of_small_numbers_are_taken_as_bytes(preprocessing: Preprocessing) -> None:
    assert preprocessing.apply({"image": [[[[0, 255], [1, 2]]]]})["image"].dtype == np.float32


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"images": []}, "unknown input 'images'. Hint: Did you mean 'image'"),
        ({}, "input 'image' is missing"),
        ({"image": np.zeros((1, 1, 2, 2))}, "found elements of type float64, expected uint8"),
        ({"image": np.full((1, 1, 2, 2), 300)}, "found elements of type int64, expected uint8"),
        ({"image": np.array(["a"])}, "found elements of type <U1, expected uint8"),
        (
            {"image": np.zeros((1, 2, 2), np.uint8)},
            r"found shape \[1, 2, 2\], expected \[batch, 1, 2, 2\]",
        ),
        ({"image": np.zeros((1, 1, 2, 3), np.uint8)}, r"found shape \[1, 1, 2, 3\]"),
    ],
)
def test_raw_samples_that_do_not_fit_are_refused(
    preprocessing: Preprocessing, raw: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        preprocessing.apply(raw)


def test_all_inputs_need_the_same_batch_size(write: Write) -> None:
    specs = tuple(TensorSpec(name, "float32", (None, 1)) for name in ("a", "b"))
    preprocessing = read_preprocessing(write(steps=[], raw=specs))
    with pytest.raises(InputError, match=r"found batch sizes \[1, 2\], expected one"):
        preprocessing.apply({"a": np.zeros((1, 1)), "b": np.zeros((2, 1))})


def test_a_tokenizer_travels_along(write: Write, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    folder = tmp_path / "model"
    folder.mkdir()
    vocabulary = {"[UNK]": 0, "[PAD]": 1, "hi": 2}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    (folder / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": model, "added_tokens": []})
    )
    (folder / "weights.safetensors").write_bytes(b"large")
    bundle = write(
        steps=[{"tokenize": {"path": str(folder), "max_length": 2}}],
        raw=(TensorSpec("text", "str", (None,)),),
    )
    shutil.rmtree(folder)
    moved = bundle.rename(tmp_path / "moved")
    assert str(tmp_path) not in (moved / FILE).read_text()
    assert sorted(p.name for p in (moved / "preprocess").iterdir()) == ["0-tokenizer.json"]
    found = read_preprocessing(moved).apply({"text": ["hi"]})
    np.testing.assert_array_equal(found["input_ids"], [[2, 1]])


def test_a_missing_tokenizer_is_named(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"preprocess 'tokenize': .*no\.json does not exist"):
        write(steps=[{"tokenize": {"path": str(tmp_path / "no.json")}}])


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd"])
def test_a_step_that_reads_outside_the_bundle_is_refused(write: Write, path: str) -> None:
    folder = write()
    content = json.loads((folder / FILE).read_text())
    content["steps"] = [{"tokenize": {"path": path}}]
    (folder / FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match="a step reads outside the bundle"):
        read_preprocessing(folder)


def test_an_unknown_step_is_refused(write: Write) -> None:
    folder = write()
    content = json.loads((folder / FILE).read_text())
    content["steps"] = [{"normalise": {}}]
    (folder / FILE).write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"preprocess\.json.*'normalise'.*Did you mean 'normalize'"
    ):
        read_preprocessing(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"preprocess\.json does not exist"):
        read_preprocessing(tmp_path)
