from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


COMMIT = "0123456789abcdef0123456789abcdef01234567"
is_installed = importlib.util.find_spec("datasets") is not None
needs_datasets = pytest.mark.skipif(not is_installed, reason="the `datasets` package is optional")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    parts = {
        "train": {"text": ["a", "bb", "c"], "label": [0, 1, 0]},
        "test": {"text": ["dd"], "label": [1]},
    }
    datasets.disable_progress_bars()
    folder = tmp_path / "saved"
    datasets.DatasetDict(
        {name: datasets.Dataset.from_dict(rows, features=features) for name, rows in parts.items()}
    ).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "found neither name nor folder, expected one of them"),
        ({"name": "a/b", "folder": "c"}, "found both name and folder"),
        ({"name": "a/b"}, "found revision None, expected a commit of 40 hex digits"),
        ({"name": "a/b", "revision": "main"}, "found revision main, expected a commit"),
    ],
)
def test_a_data_set_that_may_change_is_refused(
    resolve: Resolve, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        resolve("datasets", {"hugging-face": options})


def test_the_commit_is_in_the_fingerprint(resolve: Resolve) -> None:
    def digest(revision: str) -> str:
        options = {"name": "a/b", "revision": revision}
        return str(resolve("datasets", {"hugging-face": options}).fingerprint())

    assert digest(COMMIT) == digest(COMMIT)
    assert digest(COMMIT) != digest(COMMIT[::-1])


def test_a_missing_folder_is_named(resolve: Resolve, tmp_path: Path) -> None:
    entry = resolve("datasets", {"hugging-face": {"folder": str(tmp_path / "nowhere")}})
    with pytest.raises(InputError, match="nowhere does not exist"):
        entry.fingerprint()


def test_a_missing_package_says_how_to_get_it(
    resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # what import sees when it is missing
    entry = resolve("datasets", {"hugging-face": {"folder": str(tmp_path)}})
    with pytest.raises(
        InputError, match=r"needs the Python package 'datasets'. Hint: pip install datasets"
    ):
        entry.load()


@needs_datasets
def test_a_saved_data_set_is_read(resolve: Resolve, saved: Path) -> None:
    options = {"folder": str(saved), "inputs": ["text"], "test_split": "test"}
    samples = resolve("datasets", {"hugging-face": options}).load()
    assert samples.inputs["text"].tolist() == ["a", "bb", "c", "dd"]
    np.testing.assert_array_equal(samples.labels, [0, 1, 0, 1])
    assert samples.label_names == ("ham", "spam")
    assert samples.num_test == 1


@needs_datasets
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_split": "training"}, "no split 'training'. Hint: Did you mean 'train'"),
        ({"inputs": ["txt"]}, "no column 'txt'. Hint: Did you mean 'text'"),
    ],
)
def test_missing_splits_and_columns_get_the_nearest_name(
    resolve: Resolve, saved: Path, options: dict[str, Any], message: str
) -> None:
    entry = resolve(
        "datasets", {"hugging-face": {"folder": str(saved), "inputs": ["text"], **options}}
    )
    with pytest.raises(InputError, match=message):
        entry.load()


@needs_datasets
def test_a_folder_of_something_else_is_refused(resolve: Resolve, tmp_path: Path) -> None:
    entry = resolve("datasets", {"hugging-face": {"folder": str(tmp_path)}})
    with pytest.raises(InputError, match="dataset 'hugging-face': opening"):
        entry.load()


@needs_datasets
def test_image_columns_become_channels_first_bytes(resolve: Resolve, tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    import datasets
    from PIL import Image

    datasets.disable_progress_bars()
    pictures = [Image.new("L", (4, 3), value) for value in (5, 9)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(
        {"image": pictures, "label": [0, 1]}, features=features
    ).save_to_disk(str(tmp_path / "d"))
    samples = resolve("datasets", {"hugging-face": {"folder": str(tmp_path / "d")}}).load()
    assert samples.inputs["image"].shape == (2, 1, 3, 4)
    assert samples.inputs["image"][:, 0, 0, 0].tolist() == [5, 9]
