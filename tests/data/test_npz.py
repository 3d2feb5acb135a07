from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.data.samples import Samples

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


Load = Callable[..., Samples]


@pytest.fixture
def load(resolve: Resolve, tmp_path: Path) -> Load:
    def run(options: dict[str, object] | None = None, **arrays: NDArray[Any]) -> Samples:
        path = tmp_path / "a.npz"
        if arrays:
            np.savez_compressed(path, allow_pickle=True, **arrays)
        samples: Samples = resolve(
            "datasets", {"npz": {"path": str(path), **(options or {})}}
        ).load()
        return samples

    return run


def test_several_inputs_keep_their_names(load: Load) -> None:
    a, b = np.arange(12.0).reshape(3, 4), np.asfortranarray(np.arange(6).reshape(3, 2))
    samples = load({"inputs": ["a", "b"], "labels": "t"}, a=a, b=b, t=np.array([1, 0, 1]))
    np.testing.assert_array_equal(samples.inputs["a"], a)
    np.testing.assert_array_equal(samples.inputs["b"], b)
    assert samples.label_names == ("0", "1")


def test_text_and_string_labels_are_read(load: Load) -> None:
    samples = load(x=np.array(["buy now", "hi"]), y=np.array(["spam", "ham"]))
    assert samples.inputs["x"].tolist() == ["buy now", "hi"]
    assert samples.label_names == ("ham", "spam")
    np.testing.assert_array_equal(samples.labels, [1, 0])


def test_label_names_fix_the_order_of_string_labels(load: Load) -> None:
    samples = load({"label_names": ["spam", "ham"]}, x=np.zeros(2), y=np.array(["spam", "ham"]))
    np.testing.assert_array_equal(samples.labels, [0, 1])


def test_an_unknown_string_label_is_refused(load: Load) -> None:
    with pytest.raises(InputError, match=r"label 'hamm' is not among the label names.*'ham'"):
        load({"label_names": ["spam", "ham"]}, x=np.zeros(1), y=np.array(["hamm"]))


def test_big_endian_arrays_become_native(load: Load) -> None:
    samples = load(x=np.array([1, 2], ">i4"), y=np.array([0, 1]))
    assert samples.inputs["x"].dtype == np.int32
    np.testing.assert_array_equal(samples.inputs["x"], [1, 2])


def test_the_official_test_part_is_a_count_from_the_end(load: Load) -> None:
    assert load({"num_test": 1}, x=np.zeros(3), y=np.zeros(3, int)).num_test == 1


@pytest.mark.parametrize("name", ["x", "y"])
def test_pickled_objects_are_refused(load: Load, name: str) -> None:
    arrays = {"x": np.zeros(2), "y": np.zeros(2, int), name: np.array([{}, []], object)}
    with pytest.raises(InputError, match=f"array '{name}'.*found pickled Python objects"):
        load(**arrays)


def test_a_missing_array_gets_the_nearest_name(load: Load) -> None:
    with pytest.raises(InputError, match=r"has no array 'images'. Hint: Did you mean 'image'"):
        load({"inputs": ["images"]}, image=np.zeros(1), y=np.zeros(1, int))


@pytest.mark.parametrize("labels", [np.zeros(2), np.zeros((2, 1), int)])
def test_labels_must_be_class_numbers(load: Load, labels: NDArray[np.generic]) -> None:
    with pytest.raises(InputError, match="expected integers or strings, one per sample"):
        load(x=np.zeros(2), y=labels)


@pytest.mark.parametrize("labels", [[-1, 0], [0, 10**9]])
def test_labels_must_count_from_zero(load: Load, labels: list[int]) -> None:
    with pytest.raises(InputError, match="Number the classes from 0"):
        load(x=np.zeros(2), y=np.array(labels))


def test_a_missing_file_is_named(resolve: Resolve, tmp_path: Path) -> None:
    entry = resolve("datasets", {"npz": {"path": str(tmp_path / "no.npz")}})
    for act in (entry.fingerprint, entry.load):
        with pytest.raises(InputError, match=r"no\.npz does not exist"):
            act()


def test_a_truncated_file_is_refused(load: Load, tmp_path: Path) -> None:
    load(x=np.zeros(200), y=np.zeros(200, int))
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="found a damaged file"):
        load()


def test_a_flipped_byte_is_noticed(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(200), y=np.zeros(200, int))
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="found a damaged file"):
        load()


def test_a_bomb_is_refused_before_it_is_unpacked(load: Load) -> None:
    with pytest.raises(InputError, match="found 8 MiB unpacked, expected at most 1 MiB"):
        load({"max_mib": 1}, x=np.zeros(1 << 20), y=np.zeros(1, int))


def test_a_claimed_shape_allocates_nothing(load: Load, tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000,)}\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"ab"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", content)
    with pytest.raises(InputError, match="found 2 bytes of values, expected 10000000000"):
        load()


def test_a_member_that_is_not_an_array_is_refused(load: Load, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"text")
        archive.writestr("y.npy", b"text")
    with pytest.raises(InputError, match=r"expected a plain \.npy array"):
        load()


def test_options_and_bytes_are_in_the_fingerprint(resolve: Resolve, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def digest(**options: object) -> str:
        return str(resolve("datasets", {"npz": {"path": str(path), **options}}).fingerprint())

    np.savez(path, x=np.zeros(2), y=np.zeros(2, int))
    before = digest()
    assert digest(inputs=["z"]) != before
    np.savez(path, x=np.ones(2), y=np.zeros(2, int))
    assert digest() != before
