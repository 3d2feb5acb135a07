"""Parity: two forms of one model give the same answers on the same inputs, within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from edgekit.arithmetic.similarity import max_abs, snr_db, top1_agreement
from edgekit.core.errors import StageError
from edgekit.core.options import Meta, Options
from edgekit.core.report import Parity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_WORST_DB = -999.0


class Tolerance(Options, frozen=True, kw_only=True):
    """Bound how far two forms of a model may be apart; one of the two bounds must hold.

    Why two: a signal-to-noise ratio says nothing about outputs that are all but zero, and a
    largest difference little about outputs of many sizes. For two ways to sum the same float32
    products both hold with room to spare: 24 bits of mantissa are 144 dB, and a thousand terms
    cost about 30 of them.
    """

    min_snr_db: Annotated[float, Meta(ge=0, le=140, description="Signal over difference")] = 60.0
    max_abs_of_range: Annotated[
        float, Meta(ge=0, le=1, description="Largest difference, as a share of the output's range")
    ] = 1e-4


def compare(reference: Mapping[str, Array], other: Mapping[str, Array]) -> Parity:
    """Compare outputs of the same items; over several outputs the worst counts.

    Args:
        reference: Arrays by output name.
        other: The same names and shapes.

    Returns:
        `snr_db` is None when all outputs are equal; `top1_agreement` is the share of items whose
        best class is the same, 1 where no output holds class scores.

    Raises:
        StageError: Names or shapes differ, or a value is NaN or infinite.
    """
    _require_same_names(reference, other)
    pairs = [(_numbers(reference[name]), _numbers(other[name])) for name in reference]
    snr = min(snr_db(mine, theirs) for mine, theirs in pairs)
    scores = [name for name, array in reference.items() if array.ndim == 2 and array.shape[1] > 1]
    agreement = min((top1_agreement(reference[name], other[name]) for name in scores), default=1.0)
    return Parity(
        snr_db=None if snr == math.inf else max(snr, _WORST_DB),
        max_abs=max(
            max_abs(_numbers(reference[name]), _numbers(other[name])) for name in reference
        ),
        top1_agreement=agreement,
        bit_exact=all(_is_equal(reference[name], other[name]) for name in reference),
    )


def is_within(
    reference: Mapping[str, Array], other: Mapping[str, Array], tolerance: Tolerance
) -> bool:
    """Tell whether every output keeps one of the two bounds.

    Raises:
        StageError: Names or shapes differ, or a value is NaN or infinite.
    """
    _require_same_names(reference, other)
    return all(
        _is_close(_numbers(reference[name]), _numbers(other[name]), tolerance) for name in reference
    )


def require_parity(
    reference: Mapping[str, Array],
    other: Mapping[str, Array],
    *,
    between: str,
    tolerance: Tolerance | None = None,
    locate: Callable[[], object | None] | None = None,
) -> Parity:
    """Return the comparison, or fail and say where the two forms part.

    Args:
        reference: Outputs of the form that is right, by name.
        other: Outputs of the form that is checked.
        between: What is compared, as in `torch and ONNX`.
        tolerance: How far apart they may be.
        locate: Finds the first layer that differs; called only on failure.

    Raises:
        StageError: The outputs differ by more than the tolerance, or are not finite.
    """
    wanted = tolerance or Tolerance()
    require_finite(reference, between)
    require_finite(other, between)
    parity = compare(reference, other)
    if is_within(reference, other, wanted):
        return parity
    layer = locate() if locate is not None else None
    if layer is not None:
        place = f"; the first layer that differs is {layer}"
    elif locate is not None:
        place = "; each layer agrees when watched, so a rewrite across layers is wrong"
    else:
        place = ""
    raise StageError(
        f"comparing {between}",
        found=f"SNR {_decibels(parity.snr_db)}, largest difference {parity.max_abs:.3g}, "
        f"same best class for {parity.top1_agreement:.1%}{place}",
        expected=f"at least {wanted.min_snr_db:g} dB, or a difference of at most "
        f"{wanted.max_abs_of_range:g} of the output's range",
    )


def require_finite(outputs: Mapping[str, Array], what: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        StageError: An output holds one.
    """
    import numpy as np

    for name, array in outputs.items():
        if array.dtype.kind != "f":
            continue
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            raise StageError(
                f"checking {what}: output '{name}'",
                found=f"{bad} of {array.size} values NaN or infinite",
                expected="finite values",
                hint="The training may have diverged, or a weight overflows: start from an "
                "earlier checkpoint or lower the learning rate",
            )


def _is_close(reference: Array, other: Array, tolerance: Tolerance) -> bool:
    if snr_db(reference, other) >= tolerance.min_snr_db:
        return True
    span = float(reference.max()) - float(reference.min()) if reference.size else 0.0
    return max_abs(reference, other) <= tolerance.max_abs_of_range * span


def _require_same_names(reference: Mapping[str, Array], other: Mapping[str, Array]) -> None:
    if set(reference) != set(other) or not reference:
        raise StageError(
            "comparing two models",
            found=f"outputs {', '.join(sorted(other)) or 'none'}",
            expected=", ".join(sorted(reference)) or "at least one",
        )


def _numbers(array: Array) -> Array:
    return array.astype("uint8") if array.dtype.kind == "b" else array


def _is_equal(reference: Array, other: Array) -> bool:
    import numpy as np

    return reference.dtype == other.dtype and bool(np.array_equal(reference, other))


def _decibels(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.1f} dB"
