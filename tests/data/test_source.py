from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.data.samples import Samples, Split
from edgekit.data.source import Data
from edgekit.data.splits import SplitSpec

if TYPE_CHECKING:
    from tests.data.conftest import Resolve

Make = Callable[..., Data]
CHAIN: list[object] = [{"to-float": {"scale": 255}}, {"normalize": {"mean": [0.5], "std": [0.5]}}]


@pytest.fixture
def make(resolve: Resolve, mnist_like: Path) -> Make:
    def build(chain: list[object] = CHAIN, seed: int = 0, **split: object) -> Data:
        return Data(
            dataset=resolve("datasets", {"idx": {"folder": str(mnist_like)}}),
            split=msgspec.convert(split, SplitSpec),
            preprocess=[resolve("preprocess", step) for step in chain],
            seed=seed,
        )

    return build


def test_parts_hold_preprocessed_inputs_and_their_labels(make: Make) -> None:
    data = make()
    raw = make(chain=[])
    np.testing.assert_array_equal(
        data.train.inputs["image"],
        (raw.train.inputs["image"] / np.float32(255) - np.float32(0.5)) / np.float32(0.5),
    )
    np.testing.assert_array_equal(data.train.labels, raw.train.labels)
    assert data.label_names == ("0", "1", "2")


def test_every_sample_keeps_its_label(make: Make) -> None:
    data = make(chain=[])
    for part in (data.train, data.validation, data.calibration, data.test):
        local = np.where(part.indices < 30, part.indices, part.indices - 30)
        np.testing.assert_array_equal(part.labels, local % 3)


def test_the_official_test_part_is_the_test_split(make: Make) -> None:
    assert sorted(make().test.indices) == list(range(30, 40))


def test_sizes_count_the_parts(make: Make) -> None:
    data = make(validation=4, calibration=2)
    assert data.sizes() == {"train": 24, "validation": 4, "calibration": 2, "test": 10}


def test_signatures_describe_samples_before_and_after_preprocessing(make: Make) -> None:
    data = make(chain=[*CHAIN, {"reshape": {"shape": [16]}}])
    assert data.raw_signature() == (TensorSpec("image", "uint8", (None, 1, 4, 4)),)
    assert data.signature() == (TensorSpec("image", "float32", (None, 16)),)


def test_a_part_is_loaded_once(make: Make) -> None:
    data = make()
    assert data.train is data.train


def test_an_empty_calibration_part_is_refused_when_it_is_needed(make: Make) -> None:
    data = make(calibration=0)
    with pytest.raises(
        InputError, match=r"calibration split is needed here and is empty: found data.split.cal"
    ):
        data.require("calibration")
    with pytest.raises(InputError, match="calibration split is needed"):
        _ = data.calibration
    assert len(data.train) == 27


def test_a_part_that_rounds_to_nothing_is_refused_too(make: Make) -> None:
    data = make(calibration=0.001)
    data.require("calibration")
    with pytest.raises(InputError, match=r"calibration split is needed.*40 samples in all"):
        _ = data.calibration


def test_the_fingerprint_is_the_same_for_a_copy_elsewhere(
    make: Make, resolve: Resolve, mnist_like: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(mnist_like, copy)
    dataset = resolve("datasets", {"idx": {"folder": str(copy)}})
    steps = [resolve("preprocess", step) for step in CHAIN]
    assert Data(dataset=dataset, preprocess=steps).fingerprint == make().fingerprint


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_any_changed_byte_changes_the_fingerprint(make: Make, mnist_like: Path, name: str) -> None:
    before = make().fingerprint
    content = bytearray((mnist_like / name).read_bytes())
    content[-1] ^= 1
    (mnist_like / name).write_bytes(content)
    assert make().fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"validation": 3},
        {"stratify": False},
        {"chain": CHAIN[:1]},
        {"chain": [CHAIN[1], CHAIN[0]]},
        {"chain": [{"to-float": {"scale": 256}}, CHAIN[1]]},
    ],
)
def test_any_changed_option_changes_the_fingerprint(make: Make, change: dict[str, Any]) -> None:
    assert make(**change).fingerprint != make().fingerprint


def test_the_split_seed_replaces_the_recipe_seed_in_the_fingerprint(make: Make) -> None:
    data_a, data_b = make(seed=0), make(seed=9)
    data_a.split, data_b.split = SplitSpec(seed=4), SplitSpec(seed=4)
    assert data_a.fingerprint == data_b.fingerprint


def test_options_and_fingerprints_load_no_framework(mnist_like: Path) -> None:
    code = f"""
import sys
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_variant
from edgekit.data.source import Data
import edgekit.data.portable, edgekit.data.tensors
for kind in ("datasets", "preprocess", "metrics"):
    for name in registry(kind).names():
        registry(kind).get(name)
entry = resolve_variant({{"idx": {{"folder": {str(mnist_like)!r}}}}}, "datasets", Where("r"))
Data(dataset=entry).fingerprint
heavy = {{"numpy", "torch", "onnx", "onnxruntime", "tvm", "sklearn", "PIL", "tokenizers"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def split_of(size: int) -> Split:
    rows = np.arange(size)
    return Split(name="test", inputs={"x": rows * 2}, labels=rows, indices=rows)


def test_a_subset_is_the_first_samples() -> None:
    part = split_of(5).take(2)
    np.testing.assert_array_equal(part.inputs["x"], [0, 2])
    assert part.name == "test"


def test_a_subset_larger_than_the_split_is_refused() -> None:
    with pytest.raises(InputError, match="subset of the test split: found 5 samples, expected at"):
        split_of(5).take(6)


def test_batches_cover_the_split_in_order() -> None:
    batches = list(split_of(5).batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), np.arange(5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {}}, "found no samples"),
        ({"labels": np.zeros(0, np.int64), "inputs": {"x": np.zeros(0)}}, "found no samples"),
        ({"inputs": {"x": np.zeros(3)}}, "found 3 samples in 'x' and 2 labels"),
        ({"labels": np.array([0, 2])}, "found labels from 0 to 2, expected 0 to 1"),
        ({"labels": np.array([-1, 0])}, "found labels from -1 to 0"),
        ({"num_test": 3}, "found a test part of 3 samples"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(change: dict[str, Any], message: str) -> None:
    whole = {"inputs": {"x": np.zeros(2)}, "labels": np.array([0, 1]), "label_names": ("a", "b")}
    with pytest.raises(InputError, match=f"reading a dataset: {message}"):
        Samples(**{**whole, **change})
