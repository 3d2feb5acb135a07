from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.core.registry import registry

if TYPE_CHECKING:
    from tests.data.conftest import Resolve, WriteIdx


def test_a_recipe_can_name_these_datasets() -> None:
    assert {"digits", "fashion-mnist", "hugging-face", "idx", "image-folder", "npz"} <= set(
        registry("datasets").names()
    )


@pytest.mark.parametrize("name", registry("datasets").names())
def test_every_dataset_offers_the_contract_and_help(name: str) -> None:
    entry = registry("datasets").get(name)
    assert registry("datasets").help(name)
    for method in ("describe", "fingerprint", "load"):
        assert callable(getattr(entry, method))


def test_digits_are_those_of_scikit_learn(resolve: Resolve) -> None:
    from sklearn.datasets import load_digits

    samples = resolve("datasets", "digits").load()
    expected = load_digits()
    np.testing.assert_array_equal(samples.inputs["image"][:, 0], expected.images)
    np.testing.assert_array_equal(samples.labels, expected.target)
    assert samples.inputs["image"].dtype == np.uint8
    assert samples.num_test is None


def test_digits_without_scikit_learn_say_how_to_get_it(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"scikit-learn, which is not installed.*pip install"):
        resolve("datasets", "digits").fingerprint()


def test_idx_files_become_images_with_a_channel_and_a_test_part(
    resolve: Resolve, mnist_like: Path
) -> None:
    entry = resolve(
        "datasets", {"idx": {"folder": str(mnist_like), "label_names": ["a", "b", "c"]}}
    )
    samples = entry.load()
    assert samples.inputs["image"].shape == (40, 1, 4, 4)
    assert samples.num_test == 10
    assert samples.label_names == ("a", "b", "c")


def test_idx_without_test_files_has_no_official_test_part(
    resolve: Resolve, mnist_like: Path
) -> None:
    (mnist_like / "t10k-labels-idx1-ubyte.gz").unlink()
    assert resolve("datasets", {"idx": {"folder": str(mnist_like)}}).load().num_test is None


def test_fashion_mnist_reads_its_folder(resolve: Resolve, mnist_like: Path) -> None:
    entry = resolve("datasets", {"fashion-mnist": {"folder": str(mnist_like)}})
    assert len(entry.load()) == 40
    assert entry.load().label_names[9] == "Ankle boot"
    assert len(entry.fingerprint()) == 64


def test_a_missing_fashion_mnist_says_how_to_get_it(resolve: Resolve, tmp_path: Path) -> None:
    entry = resolve("datasets", {"fashion-mnist": {"folder": str(tmp_path)}})
    for act in (entry.fingerprint, entry.load):
        with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
            act()


def test_missing_idx_files_are_named(resolve: Resolve, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks train-images-idx3-ubyte or train-labels"):
        resolve("datasets", {"idx": {"folder": str(tmp_path)}}).fingerprint()


def test_images_and_labels_of_different_number_are_refused(
    resolve: Resolve, mnist_like: Path, write_idx: WriteIdx
) -> None:
    write_idx(mnist_like / "train-labels-idx1-ubyte", np.zeros(29, np.uint8))
    with pytest.raises(InputError, match=r"labels of shape \(29,\), expected \(30,\)"):
        resolve("datasets", {"idx": {"folder": str(mnist_like)}}).load()


def test_test_images_of_another_size_are_refused(
    resolve: Resolve, mnist_like: Path, write_idx: WriteIdx
) -> None:
    write_idx(mnist_like / "t10k-images-idx3-ubyte.gz", np.zeros((10, 5, 5), np.uint8))
    with pytest.raises(InputError, match=r"samples of shape \(1, 5, 5\), uint8, expected"):
        resolve("datasets", {"idx": {"folder": str(mnist_like)}}).load()


def test_more_classes_than_names_are_refused(resolve: Resolve, mnist_like: Path) -> None:
    entry = resolve("datasets", {"idx": {"folder": str(mnist_like), "label_names": ["a", "b"]}})
    with pytest.raises(InputError, match="class numbers from 0 to 2, expected 0 to 1"):
        entry.load()


def test_a_dataset_without_its_folder_option_is_refused(resolve: Resolve) -> None:
    with pytest.raises(InputError, match="option 'folder' is missing"):
        resolve("datasets", "idx")


def test_an_unknown_dataset_gets_the_nearest_name(resolve: Resolve) -> None:
    with pytest.raises(InputError, match="Did you mean 'fashion-mnist'"):
        resolve("datasets", "fashion-minst")
