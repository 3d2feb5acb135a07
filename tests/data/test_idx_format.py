from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgekit.core.errors import InputError
from edgekit.data.idx_format import read_idx

if TYPE_CHECKING:
    from tests.data.conftest import WriteIdx


arrays = npst.arrays(
    dtype=st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]),
    shape=npst.array_shapes(max_dims=4, max_side=5),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays, st.sampled_from(["a.idx", "a.idx.gz"]))
def test_what_was_written_is_read(
    tmp_path: Path, write_idx: WriteIdx, array: np.ndarray, name: str
) -> None:
    found = read_idx(write_idx(tmp_path / name, array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays, st.data())
def test_a_file_cut_anywhere_is_refused(
    tmp_path: Path, write_idx: WriteIdx, array: np.ndarray, data: st.DataObject
) -> None:
    path = write_idx(tmp_path / data.draw(st.sampled_from(["a", "a.gz"])), array)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match="reading idx file"):
        read_idx(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.idx: it does not exist"):
        read_idx(tmp_path / "no.idx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an idx magic number"),
        (b"PK\x03\x04", "found the start 50 4b 03 04, expected an idx magic number"),
        (b"\0\0\x08\0", "expected an idx magic number"),
        (b"\0\0\x08\x02\0\0\0\x01", "found a truncated header"),
        (b"\0\0\x08\x01\0\0\0\x03ab", "found 2 bytes of values, expected 3 bytes"),
        (b"\0\0\x08\x01\0\0\0\x01ab", "found bytes left over"),
        (b"\0\0\x08\x01\x7f\xff\xff\xffab", "found 2 bytes of values"),
        (b"\0\0\x0e\x02\xff\xff\xff\xff\xff\xff\xff\xff", "expected at most 4 GiB of values"),
    ],
)
def test_damaged_and_hostile_files_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_idx(path)


def test_a_file_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match="found damaged gzip data"):
        read_idx(path)


def test_decompression_stops_where_the_header_says_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x05" + b"\0" * (64 << 20), 9))
    with pytest.raises(InputError, match="found bytes left over"):
        read_idx(path)
