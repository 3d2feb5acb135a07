"""Importance by magnitude: channels with small weights go first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import torch

    from edgekit.compress.pruning.groups import Group
    from edgekit.compress.pruning.statistics import Statistics


class L2(Options, frozen=True, kw_only=True):
    """Euclidean norm of all weights that a removal would cut, over every layer of the group.

    Filters and the columns that read them count alike. Norms of layers of different sizes can't be
    compared as they are, so a group's scores are divided by their mean.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, section 3.3, without
    its sparse training.
    """

    num_batches: ClassVar[int] = 0
    batch_size: ClassVar[int] = 0

    normalize: Annotated[
        Literal["mean", "none"], Meta(description="Divide the scores of a group by their mean")
    ] = "mean"

    def scores(self, group: Group, statistics: Statistics) -> torch.Tensor:
        """Return one score per unit, shape (units,), float64."""
        import torch

        from edgekit.compress.pruning.slices import relative_to_mean, sum_by_unit, weight_rows

        squares = torch.zeros(group.num_units, dtype=torch.float64)
        for member in group.members:
            layer = statistics.layers[member.module]
            weight = getattr(layer, "weight", None)
            if weight is None or weight.ndim < 2:
                continue  # normalisation: its size says how the next layer scales, not what counts
            rows = weight_rows(layer, weight.detach().double(), member.kind)
            squares = squares + sum_by_unit(rows.square().sum(1), member)
        norms = squares.sqrt()
        return relative_to_mean(norms) if self.normalize == "mean" else norms
