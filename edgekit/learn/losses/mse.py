"""Mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import torch


class Mse(Options, frozen=True, kw_only=True):
    """Squared difference, averaged over all elements or summed within each sample."""

    reduction: Annotated[
        Literal["mean", "batchmean"],
        Meta(description="mean: over all elements; batchmean: sum of a sample, mean over samples"),
    ] = "mean"

    def __call__(self, student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return one number.

        Args:
            student: Any shape, batch first.
            target: The same shape.
        """
        squared = (student - target).square()
        if self.reduction == "batchmean":
            return squared.sum() / len(squared)
        return squared.mean()
