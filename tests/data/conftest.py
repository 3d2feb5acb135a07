from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.core.schema import Where, resolve_variant

Resolve = Callable[[str, object], Any]
WriteIdx = Callable[[Path, NDArray[Any]], Path]

_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


@pytest.fixture(scope="session")
def resolve() -> Resolve:
    """Build an entry as a recipe would: `resolve("datasets", {"npz": {...}})`."""
    return lambda kind, value: resolve_variant(value, kind, Where("r.yaml"))


@pytest.fixture(scope="session")
def write_idx() -> WriteIdx:
    """Write an idx file, compressed when the name ends in .gz."""

    def write(path: Path, array: NDArray[Any]) -> Path:
        header = bytes([0, 0, _CODES[array.dtype.str[1:]], array.ndim])
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        content = header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def mnist_like(tmp_path: Path, write_idx: WriteIdx) -> Path:
    """A folder in MNIST's layout: 30 training and 10 test images of 4x4, three classes."""
    folder = tmp_path / "mnist"
    rng = np.random.default_rng(0)
    for part, size, suffix in (("train", 30, ""), ("t10k", 10, ".gz")):
        images = rng.integers(0, 256, (size, 4, 4), np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        labels = (np.arange(size) % 3).astype(np.uint8)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return folder
