"""Share of samples whose right class is among the five best scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.data.metrics._scores import choose_scores

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels


class Top5(Options, frozen=True):
    """Top-5 accuracy: the share of samples whose right class has one of the five highest scores."""

    better: ClassVar[Literal["higher"]] = "higher"
    unit: ClassVar[str] = ""

    output: Annotated[
        str | None, Meta(description="output with the scores; the only one if unset")
    ] = None

    def compute(self, outputs: Array | Mapping[str, Array], labels: Labels) -> float:
        """Compute the share from scores [batch, classes]; ties go to the lower class.

        Raises:
            InputError: there are five classes or fewer, so that every answer would count.
        """
        import numpy as np

        scores = choose_scores(outputs, self.output, labels, "top-5")
        num_classes = scores.shape[1]
        if num_classes <= 5:
            raise InputError(
                "metric 'top-5'",
                found=f"{num_classes} classes",
                expected="more than 5",
                hint="Use top-1",
            )
        own = scores[np.arange(len(labels)), labels][:, None]
        is_tied_before = (scores == own) & (np.arange(num_classes) < labels[:, None])
        rank = (scores > own).sum(axis=1) + is_tied_before.sum(axis=1)
        return float((rank < 5).mean())
