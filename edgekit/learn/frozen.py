"""A teacher that never learns: eval mode, no gradient, answers detached."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.learn.contracts import OUTPUT, Batch, Taps
from edgekit.learn.taps import TapRecorder


class FrozenTeacher:
    """Answer with a fixed network; keep answers when every sample is always shown the same way.

    Args:
        model: The network; its parameters stop requiring gradients.
        taps: Modules to record besides the output; recorded answers are not kept, they are large.
        remember: Number of training samples whose outputs may be kept, or None.
    """

    def __init__(
        self, model: nn.Module, taps: tuple[str, ...] = (), *, remember: int | None = None
    ) -> None:
        self._model = model.requires_grad_(requires_grad=False).eval()
        self._recorder = TapRecorder(model, taps)
        self._num_remembered = remember if not taps else None
        self._kept = torch.empty(0)
        self._is_kept = torch.zeros(self._num_remembered or 0, dtype=torch.bool)

    def __call__(self, batch: Batch) -> Taps:
        """Return the taps for a batch, detached."""
        if self._num_remembered is not None and bool(self._is_kept[batch.indices].all()):
            return {OUTPUT: self._kept[batch.indices]}
        # Whoever shares modules with the student may have switched the mode meanwhile.
        self._model.eval()
        with torch.no_grad():
            taps = {name: tap.detach() for name, tap in self._recorder(batch.inputs).items()}
        if self._num_remembered is not None:
            self._keep(batch.indices, taps[OUTPUT])
        return taps

    def _keep(self, indices: torch.Tensor, output: torch.Tensor) -> None:
        if not self._kept.numel():
            shape = (len(self._is_kept), *output.shape[1:])
            self._kept = torch.zeros(shape, dtype=output.dtype)
        self._kept[indices] = output
        self._is_kept[indices] = True
