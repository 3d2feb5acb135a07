"""One part of a dataset as torch tensors, and the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.core.errors import InputError, near
from edgekit.core.stage import SplitView

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorSplit:
    """Hold inputs and labels of a split.

    Attributes:
        inputs: in the model's order, batch first.
        labels: int64 [samples].
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return inputs and labels of some samples; images have channels innermost in memory."""
        return tuple(_arranged(x[indices]) for x in self.inputs), self.labels[indices]


def to_tensors(split: SplitView, names: tuple[str, ...]) -> TensorSplit:
    """Return a split as tensors, inputs in the order of `names`; no copy where possible.

    Raises:
        InputError: The data has no input of that name.
    """
    for name in names:
        if name not in split.inputs:
            raise InputError(
                f"the data has no input '{name}'", hint=near(name, tuple(split.inputs))
            )
    return TensorSplit(
        inputs=tuple(as_tensor(split.inputs[name]) for name in names),
        labels=as_tensor(split.labels),
    )


def shuffled(
    num_samples: int, batch_size: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield the indices of each batch of one epoch.

    All batches have the full size: batch normalisation misjudges a small rest, and the samples
    left out are others in every epoch.
    """
    order = torch.randperm(num_samples, generator=generator)
    size = min(batch_size, num_samples)
    for start in range(0, num_samples - size + 1, size):
        yield order[start : start + size]


def num_batches(num_samples: int, batch_size: int) -> int:
    """Return the number of batches `shuffled` yields."""
    return num_samples // min(batch_size, num_samples)


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor, sharing memory where torch may write to it."""
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())


def _arranged(x: torch.Tensor) -> torch.Tensor:
    # Convolutions on the CPU are a quarter to a third faster with channels innermost.
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
