"""Tensors of the operator graph."""

from __future__ import annotations

import math

import msgspec


class Grid(msgspec.Struct, frozen=True):
    """State how levels of a quantized tensor stand for real numbers: scale * (level - zero_point).

    Args:
        scale: float32 value above 0.
        zero_point: Within the levels of the tensor's dtype.
    """

    scale: float
    zero_point: int


class Tensor(msgspec.Struct, frozen=True):
    """Describe one value of a network.

    Args:
        name: Unique in its network.
        shape: As in ONNX, every size fixed and above 0.
        dtype: numpy's word, such as `float32` or `uint8`.
        grid: Of a quantized tensor; its dtype is then `uint8` or `int8`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    grid: Grid | None = None

    @property
    def size(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)
