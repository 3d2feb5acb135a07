"""Cross-entropy with hard labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import torch


class CrossEntropy(Options, frozen=True, kw_only=True):
    """Cross-entropy of class scores with integer labels, averaged over the batch.

    With smoothing s the label has probability 1 - s + s/K and every other of the K classes s/K.
    """

    label_smoothing: Annotated[float, Meta(ge=0, lt=1, description="s, 0 for none")] = 0.0

    def __call__(self, student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over the batch.

        Args:
            student: Class scores before softmax, [batch, K].
            target: Labels, int64 [batch].
        """
        import torch.nn.functional as F

        return F.cross_entropy(student, target, label_smoothing=self.label_smoothing)
