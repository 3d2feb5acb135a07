"""Tensors as raw little-endian files with a JSON index: what a C program can read directly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.core.errors import InputError
from edgekit.core.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from edgekit.data.contracts import Array

INDEX_FILE = "tensors.json"
_INTEGERS = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64"
_TYPES = frozenset(f"{_INTEGERS} float16 float32 float64".split(" "))


class TensorFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name the file that holds one tensor, C-contiguous and little-endian.

    Args:
        name: tensor name.
        file: file name, beside the index.
        dtype: element type by numpy's name.
        shape: sizes.
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]


class TensorIndex(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """List the tensors of a folder."""

    schema: int = 1
    tensors: tuple[TensorFile, ...]


def write_tensors(folder: Path, tensors: Mapping[str, Array]) -> tuple[TensorFile, ...]:
    """Write tensors and their index; equal tensors give equal bytes.

    Args:
        folder: where to; created when missing.
        tensors: arrays of numbers by name. File names are positions, since tensor names may hold
            any character.

    Returns:
        The index entries, in the order given.

    Raises:
        InputError: an element type that devices cannot read.
    """
    import numpy as np

    entries = []
    for position, (name, array) in enumerate(tensors.items()):
        if array.dtype.name not in _TYPES:
            raise InputError(
                f"writing tensor '{name}'",
                found=f"elements of type {array.dtype}",
                expected=", ".join(sorted(_TYPES)),
            )
        file = f"{position}.bin"
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        write_atomic(folder / file, little.tobytes())
        entries.append(TensorFile(name=name, file=file, dtype=array.dtype.name, shape=array.shape))
    write_json(folder / INDEX_FILE, TensorIndex(tensors=tuple(entries)))
    return tuple(entries)


def read_tensors(folder: Path) -> dict[str, Array]:
    """Read all tensors of a folder.

    Raises:
        InputError: index or file is missing or damaged, or a file's size does not fit its shape.
    """
    index = read_json(folder / INDEX_FILE, TensorIndex)
    return {entry.name: read_tensor(folder, entry) for entry in index.tensors}


def read_tensor(folder: Path, entry: TensorFile) -> Array:
    """Read one tensor.

    Args:
        folder: folder of the file.
        entry: its name, type and shape.

    Returns:
        A writable array in native byte order.

    Raises:
        InputError: the file leaves the folder, is missing, or does not have the expected size.
    """
    import numpy as np

    doing = f"reading tensor '{entry.name}' of {folder}"
    if (
        Path(entry.file).name != entry.file
        or entry.dtype not in _TYPES
        or min(entry.shape, default=0) < 0
    ):
        raise InputError(
            doing,
            found=f"file {entry.file!r}, type {entry.dtype!r}, shape {list(entry.shape)}",
            expected="a file beside the index, a known type and sizes from 0",
        )
    dtype = np.dtype(entry.dtype).newbyteorder("<")
    path, wanted = folder / entry.file, math.prod(entry.shape) * dtype.itemsize
    if not path.is_file():
        raise InputError(f"{doing}: {entry.file} is missing")
    if path.stat().st_size != wanted:
        raise InputError(
            doing,
            found=f"{path.stat().st_size} bytes",
            expected=f"{wanted} for {entry.dtype} {list(entry.shape)}",
        )
    values = np.fromfile(path, dtype).reshape(entry.shape)
    return values.astype(dtype.newbyteorder("="))
