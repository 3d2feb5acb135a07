"""Arrays for the tests of devices, and what running them gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekit.devices.job import JobResult

Arrays = Mapping[str, NDArray[Any]]


class Ran(NamedTuple):
    outputs: dict[str, NDArray[Any]]
    result: JobResult


Run = Callable[..., Ran]


def items(*firsts: float) -> dict[str, NDArray[Any]]:
    """Return inputs with one item per argument, which starts the item's `x`."""
    x = np.arange(4 * len(firsts), dtype=np.float32).reshape(-1, 4)
    x[:, 0] = firsts
    return {"x": x, "b": np.full_like(x, 0.5)}
