"""How close two results of the same model are: signal-to-noise ratio, largest error, agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.floating] | NDArray[np.integer]


def snr_db(reference: Numbers, other: Numbers) -> float:
    """Give the power of the reference over the power of the difference, in decibels.

    Args:
        reference: any shape.
        other: same shape.

    Returns:
        +inf when both are equal, -inf when the reference is all zero and the other is not.

    Raises:
        StageError: shapes differ, or either holds NaN or infinity.
    """
    a, b = _comparable(reference, other)
    noise = float(np.sum(np.square(a - b)))
    signal = float(np.sum(np.square(a)))
    if noise == 0.0:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal else float("-inf")


def max_abs(reference: Numbers, other: Numbers) -> float:
    """Give the largest absolute difference; 0 for empty tensors.

    Raises:
        StageError: shapes differ, or either holds NaN or infinity.
    """
    a, b = _comparable(reference, other)
    return float(np.abs(a - b).max(initial=0.0))


def top1_agreement(reference: Numbers, other: Numbers) -> float:
    """Give the share of samples whose best class is the same, ties going to the lower class.

    Args:
        reference: scores [batch, classes].
        other: scores [batch, classes].

    Raises:
        StageError: shapes differ or are not 2-d with a sample, or values are not finite.
    """
    a, b = _comparable(reference, other)
    if a.ndim != 2 or not a.size:
        raise StageError(
            "comparing predictions", found=f"scores of shape {a.shape}", expected="[batch, classes]"
        )
    return float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))


def _comparable(
    reference: Numbers, other: Numbers
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != other.shape:
        raise StageError(
            "comparing two outputs",
            found=f"shape {other.shape}",
            expected=f"shape {reference.shape} as in the reference",
        )
    pair = (reference.astype(np.float64), other.astype(np.float64))
    for name, values in zip(("the reference", "the compared output"), pair, strict=True):
        if not np.isfinite(values).all():
            raise StageError(
                "comparing two outputs",
                found=f"NaN or infinity in {name}",
                expected="finite values",
                hint="A weight or an activation overflowed: look at the stage before.",
            )
    return pair
