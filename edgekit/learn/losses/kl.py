"""Kullback-Leibler divergence of softened class probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import torch


class Kl(Options, frozen=True, kw_only=True):
    """T^2 * KL(softmax(z_t/T) || softmax(z_s/T)), summed over classes, averaged over the batch.

    The factor T^2 keeps the size of the gradient when T changes. Computed in float32 at least:
    softened probabilities underflow in half precision.
    """

    temperature: Annotated[float, Meta(gt=0, le=1e6, description="T; 1 leaves scores alone")] = 1.0

    def __call__(self, student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over the batch.

        Args:
            student: Class scores before softmax, [batch, K].
            target: The teacher's class scores before softmax, [batch, K].
        """
        import torch
        import torch.nn.functional as F

        kind = torch.promote_types(student.dtype, torch.float32)
        log_student = F.log_softmax(student.to(kind) / self.temperature, dim=-1)
        log_teacher = F.log_softmax(target.to(kind) / self.temperature, dim=-1)
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence
