"""What an importance is asked for and what it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from edgekit.compress.pruning.groups import Group
    from edgekit.compress.pruning.statistics import Statistics


class Importance(Protocol):
    """Score the units of a group; implementers are options structs in `importance/`."""

    @property
    def num_batches(self) -> int:
        """Batches of training data whose gradients it wants; 0 for none."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples per batch."""
        ...

    def scores(self, group: Group, statistics: Statistics) -> torch.Tensor:
        """Return one score per unit, shape (units,), float64; the lowest go first."""
        ...
