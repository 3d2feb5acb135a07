from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.data.tensors import read_tensors, write_tensors

TYPES = ["bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">i4", ">f4"]
arrays = st.sampled_from(TYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=4))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(str.isprintable), arrays, max_size=3))
def test_what_was_written_is_read(tmp_path: Path, tensors: dict[str, Any]) -> None:
    entries = write_tensors(tmp_path, tensors)
    found = read_tensors(tmp_path)
    assert list(found) == list(tensors) == [entry.name for entry in entries]
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


def test_files_are_raw_little_endian(tmp_path: Path) -> None:
    (entry,) = write_tensors(tmp_path, {"a/b": np.array([[1, 2]], ">i4").T})
    assert (tmp_path / entry.file).read_bytes() == b"\x01\0\0\0\x02\0\0\0"
    assert (entry.dtype, entry.shape) == ("int32", (2, 1))


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_tensors(tmp_path / folder, {"x": np.arange(6.0).reshape(2, 3)})
    for name in ("0.bin", "tensors.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([{}], object), np.array([1j])])
def test_types_a_device_cannot_read_are_refused(tmp_path: Path, array: NDArray[np.generic]) -> None:
    with pytest.raises(InputError, match="writing tensor 'x': found elements of type"):
        write_tensors(tmp_path, {"x": array})


def test_a_truncated_tensor_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path, {"x": np.zeros(4, np.float32)})
    (tmp_path / "0.bin").write_bytes(b"\0" * 15)
    with pytest.raises(InputError, match=r"found 15 bytes, expected 16 for float32 \[4\]"):
        read_tensors(tmp_path)


def test_a_missing_tensor_or_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tensors\.json does not exist"):
        read_tensors(tmp_path)
    write_tensors(tmp_path, {"x": np.zeros(4, np.float32)})
    (tmp_path / "0.bin").unlink()
    with pytest.raises(InputError, match=r"tensor 'x' of .*: 0\.bin is missing"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    "change", [{"file": "../0.bin"}, {"file": "/etc/passwd"}, {"dtype": "O"}, {"shape": [-1]}]
)
def test_a_hostile_index_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_tensors(tmp_path, {"x": np.zeros(4, np.float32)})
    index = json.loads((tmp_path / "tensors.json").read_text())
    index["tensors"][0].update(change)
    (tmp_path / "tensors.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="expected a file beside the index, a known type"):
        read_tensors(tmp_path)


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tensors.json").write_text("{")
    with pytest.raises(InputError, match="is damaged or of another version"):
        read_tensors(tmp_path)
