"""The idx format of MNIST and its relatives: a magic number, sizes, then values, big-endian.

Sizes in the header are claims: nothing is allocated for them, values are read until they end.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from edgekit.data.contracts import Array

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_BYTES = 4 << 30
_CHUNK = 1 << 20


def read_idx(path: Path) -> Array:
    """Read an idx file, compressed when its name ends in `.gz`.

    Args:
        path: the file.

    Returns:
        An array of the file's shape and type, in native byte order.

    Raises:
        InputError: the file is missing, not idx, truncated, longer than it says, or over 4 GiB.
    """
    doing = f"reading idx file {path}"
    try:
        with _open(path) as file:
            return _read(file, doing)
    except FileNotFoundError:
        raise InputError(f"{doing}: it does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            doing, found=f"damaged gzip data ({error})", hint="Fetch the file again"
        ) from error


def _open(path: Path) -> io.BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _read(file: io.BufferedIOBase, doing: str) -> Array:
    import numpy as np

    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not magic[3]:
        raise InputError(doing, found=f"the start {magic.hex(' ')}", expected="an idx magic number")
    num_dims = magic[3]
    header = file.read(4 * num_dims)
    if len(header) < 4 * num_dims:
        raise InputError(doing, found="a truncated header", hint="Fetch the file again")
    shape = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
    dtype = np.dtype(_TYPES[magic[2]])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > _MOST_BYTES:
        raise InputError(doing, found=f"shape {shape}", expected="at most 4 GiB of values")
    content = _read_up_to(file, wanted + 1)
    if len(content) != wanted:
        shown = f"{len(content)} bytes of values" if len(content) < wanted else "bytes left over"
        raise InputError(
            doing,
            found=shown,
            expected=f"{wanted} bytes for shape {shape}",
            hint="The file is truncated or damaged: fetch it again",
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read_up_to(file: io.BufferedIOBase, limit: int) -> bytearray:
    content = bytearray()
    while len(content) < limit and (chunk := file.read(min(_CHUNK, limit - len(content)))):
        content += chunk
    return content
