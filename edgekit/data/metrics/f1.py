"""F1, the harmonic mean of precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.data.metrics._scores import choose_scores

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels


class F1(Options, frozen=True):
    """F1 of one class, or averaged over the classes that occur in labels or predictions.

    Per class 2 TP / (2 TP + FP + FN), and 0 where that has no value.
    """

    better: ClassVar[Literal["higher"]] = "higher"
    unit: ClassVar[str] = ""

    average: Annotated[
        Literal["macro", "binary"],
        Meta(description="macro: mean over the classes; binary: of the class `positive` alone"),
    ] = "macro"
    positive: Annotated[int, Meta(ge=0, description="class number that binary counts")] = 1
    output: Annotated[
        str | None, Meta(description="output with the scores; the only one if unset")
    ] = None

    def compute(self, outputs: Array | Mapping[str, Array], labels: Labels) -> float:
        """Compute F1 from scores [batch, classes].

        Raises:
            InputError: `positive` is not a class of the model.
        """
        import numpy as np

        scores = choose_scores(outputs, self.output, labels, "f1")
        num_classes = scores.shape[1]
        if self.average == "binary" and self.positive >= num_classes:
            raise InputError(
                "metric 'f1'",
                found=f"positive class {self.positive}",
                expected=f"0 to {num_classes - 1}",
            )
        table = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(table, (labels, scores.argmax(axis=1)), 1)
        occurs = table.sum(axis=0) + table.sum(axis=1)  # 2 TP + FP + FN
        per_class = 2.0 * np.diagonal(table) / np.maximum(occurs, 1)
        if self.average == "binary":
            return float(per_class[self.positive])
        return float(per_class[occurs > 0].mean())
