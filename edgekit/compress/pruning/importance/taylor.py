"""Importance by the change of the loss that a removal would cause, to first order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import torch

    from edgekit.compress.pruning.groups import Group
    from edgekit.compress.pruning.statistics import Statistics


class Taylor(Options, frozen=True, kw_only=True):
    """Size of the loss change when a channel is set to zero: |sum of gradient x weight|.

    The sum runs over the weights of one channel in one layer; its magnitude is averaged over the
    batches and over the layers of the group. Then a group's scores are divided by their mean: one
    of many channels in a late layer changes the loss least, but saves little too, and without the
    division late layers are emptied first (on digits, half the MACs gone: 0.88 instead of 0.98).

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019,
    equation 8; the magnitude replaces the square, so that one odd batch does not decide.
    """

    num_batches: Annotated[
        int, Meta(ge=1, le=10_000, description="Batches of training data to average over")
    ] = 16
    batch_size: Annotated[int, Meta(ge=1, le=4096, description="Samples per batch")] = 64
    normalize: Annotated[
        Literal["mean", "none"],
        Meta(description="Divide the scores of a group by their mean; none leaves units of loss"),
    ] = "mean"

    def scores(self, group: Group, statistics: Statistics) -> torch.Tensor:
        """Return one score per unit, shape (units,), float64."""
        import torch

        from edgekit.compress.pruning.slices import relative_to_mean

        changes = statistics.first_order[group.name].abs().mean(0)
        is_scored = torch.tensor(
            [
                [member.kind == "out" and bool(channels) for channels in member.indices]
                for member in group.members
            ]
        )
        scores = (changes * is_scored).sum(0) / is_scored.sum(0).clamp(min=1)
        return relative_to_mean(scores) if self.normalize == "mean" else scores
