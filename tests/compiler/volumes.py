"""Layouts, images and levels at random, for kernel tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.arithmetic.affine import INT8, UINT8, Levels
from edgekit.compiler.graph.operators import ToLevels
from edgekit.compiler.kernels.isa.avx2 import Avx2
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume

Array = NDArray[Any]


class Unsigned(Isa):
    """Plain vectors with unsigned levels."""

    level_dtype = "uint8"


ISAS = (Avx2(), Isa(4), Unsigned(16))


def levels_of(isa: Isa) -> Levels:
    return INT8 if isa.level_dtype == "int8" else UINT8


def turns(items: Sequence[Any], isas: Sequence[Isa] = ISAS) -> list[tuple[int, Isa, Any]]:
    """Pair every item with two of the instruction sets: (number, set, item)."""
    count = len(items)
    return [(n, isas[(n + n // count) % len(isas)], items[n % count]) for n in range(2 * count)]


class Source:
    """Draw layouts and values from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def pads(self, largest: int = 2) -> tuple[int, int, int, int]:
        if self.random.random() < 0.4:
            return (0, 0, 0, 0)
        top, left, bottom, right = self.random.integers(0, largest + 1, 4)
        return int(top), int(left), int(bottom), int(right)

    def volume(
        self,
        isa: Isa,
        shape: tuple[int, int, int],
        *,
        dtype: str = "float32",
        fill: int = 0,
        pads: tuple[int, int, int, int] | None = None,
    ) -> Volume:
        channels, height, width = shape
        return Volume(
            dtype=dtype,
            channels=channels,
            height=height,
            width=width,
            lanes=isa.float_block if dtype == "float32" else isa.level_block,
            pads=self.pads() if pads is None else pads,
            fill=fill,
        )

    def shape(self, channels: int = 40, size: int = 12) -> tuple[int, int, int]:
        first, second, third = self.random.integers(1, [channels + 1, size + 1, size + 1])
        return int(first), int(second), int(third)

    def floats(self, shape: tuple[int, ...], spread: float = 2.0) -> Array:
        return (self.random.standard_normal(shape) * spread).astype(np.float32)

    def levels(self, shape: tuple[int, ...], levels: Levels) -> Array:
        drawn = self.random.integers(levels.low, levels.high, shape, endpoint=True)
        return drawn.astype(levels.dtype)

    def zero_point(self, levels: Levels) -> int:
        return int(self.random.integers(levels.low, levels.high, endpoint=True))

    def to_levels(self, levels: Levels, spread: float, channels: int = 1) -> ToLevels:
        """Draw a requantization of accumulators about `spread` large."""
        factors = self.random.uniform(0.3, 2.0, channels) * 100 / spread
        low = int(self.random.choice([levels.low, levels.low + 30]))
        return ToLevels(
            multipliers=factors.astype(np.float32),
            zero_point=self.zero_point(levels),
            low=low,
            high=levels.high,
        )
