"""Models as files: what a stage receives and what it leaves behind."""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec


class ModelKind(enum.Enum):
    """Name the form a model has between two stages."""

    TORCH = "torch"
    ONNX = "onnx"
    COMPILED = "compiled"


class TensorSpec(msgspec.Struct, frozen=True):
    """Describe one input or output.

    Args:
        name: Tensor name, as the ONNX graph and the C library spell it.
        dtype: Element type by numpy's name, such as `float32`.
        shape: Sizes; None stands for a size chosen at run time, in practice the batch.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def batched(self, size: int) -> tuple[int, ...]:
        """Return the shape with every open size set to `size`."""
        return tuple(size if dim is None else dim for dim in self.shape)


class ModelHandle(msgspec.Struct, frozen=True):
    """Point at a model's folder; stages hand over files, never live objects.

    TORCH: `architecture.json`, `surgery.json`, `weights.safetensors`. ONNX: `model.onnx`.
    COMPILED: `model.onnx`, `golden/`, `engines/<engine>/`.
    """

    kind: ModelKind
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
