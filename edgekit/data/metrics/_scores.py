"""The scores a classification metric reads from a model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, StageError, near

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels


def choose_scores(
    outputs: Array | Mapping[str, Array], name: str | None, labels: Labels, metric: str
) -> Array:
    """Give the scores [batch, classes] among a model's outputs.

    Args:
        outputs: one array, or arrays by output name.
        name: which output; None for the only one.
        labels: class indices [batch], to check against.
        metric: who asks, for messages.

    Raises:
        InputError: the output is not named or does not exist, or shapes do not fit the labels.
        StageError: the scores hold NaN.
    """
    import numpy as np

    scores = _choose(outputs, name, metric) if isinstance(outputs, Mapping) else outputs
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise InputError(
            f"metric '{metric}'",
            found=f"outputs of shape {scores.shape} for {len(labels)} labels",
            expected="[batch, classes] with at least one sample",
            hint="Name the output that holds the class scores by `output`",
        )
    if int(labels.max()) >= scores.shape[1]:
        raise InputError(
            f"metric '{metric}'",
            found=f"class {labels.max()} among the labels",
            expected=f"classes below {scores.shape[1]}, one score each",
        )
    if np.isnan(scores).any():
        raise StageError(
            f"metric '{metric}'", found="NaN in the model's outputs", expected="numbers"
        )
    return scores


def _choose(outputs: Mapping[str, Array], name: str | None, metric: str) -> Array:
    if name is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name is None:
        raise InputError(
            f"metric '{metric}' does not say which output to read",
            found=f"outputs {', '.join(outputs)}",
            hint="Set its option `output`",
        )
    if name not in outputs:
        raise InputError(f"metric '{metric}': no output '{name}'", hint=near(name, outputs))
    return outputs[name]
