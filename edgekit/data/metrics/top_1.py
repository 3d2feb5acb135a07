"""Share of samples whose best score is the right class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.options import Meta, Options
from edgekit.data.metrics._scores import choose_scores

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels


class Top1(Options, frozen=True):
    """Top-1 accuracy: the share of samples whose highest score is the right class."""

    better: ClassVar[Literal["higher"]] = "higher"
    unit: ClassVar[str] = ""

    output: Annotated[
        str | None, Meta(description="output with the scores; the only one if unset")
    ] = None

    def compute(self, outputs: Array | Mapping[str, Array], labels: Labels) -> float:
        """Compute the share from scores [batch, classes]; ties go to the lower class."""
        scores = choose_scores(outputs, self.output, labels, "top-1")
        return float((scores.argmax(axis=1) == labels).mean())
