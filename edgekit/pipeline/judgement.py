"""One row of a comparison: two values side by side and what their difference means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

Judgement = Literal["better", "worse", "equal", "changed", "not comparable"]
Better = Literal["higher", "lower", "none"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Set one figure or word of two bundles side by side.

    Args:
        group: Part of the comparison: `result`, `engine NAME`, `budgets`, `tools`.
        name: What is compared.
        old: Value of the old bundle, None when it has none.
        new: Value of the new bundle.
        unit: Unit of both values, `bytes` for sizes, empty for fractions, counts and words.
        delta: `new - old`, for numbers that both have.
        judgement: What that means.
        reason: Why it is called equal although it differs, or not comparable.
    """

    group: str
    name: str
    old: float | str | None
    new: float | str | None
    unit: str = ""
    delta: float | None = None
    judgement: Judgement
    reason: str = ""


def numbers(
    group: str,
    name: str,
    old: float | None,
    new: float | None,
    unit: str = "",
    *,
    better: Better,
    noise: float = 0.0,
    obstacle: str = "",
) -> Iterator[Row]:
    """Yield the row of a figure, or nothing when neither bundle has it.

    Args:
        group: Part of the comparison.
        name: What is compared.
        old: Value of the old bundle.
        new: Value of the new bundle.
        unit: Unit of both.
        better: Which direction is an improvement.
        noise: Part of `old` within which the two count as equal.
        obstacle: Why the two cannot be compared, empty when they can.
    """
    if old is None and new is None:
        return
    delta = None if old is None or new is None else new - old
    judgement, reason = _judge(old, new, better, noise)
    if obstacle:
        judgement, reason = "not comparable", obstacle
    yield Row(
        group=group,
        name=name,
        old=old,
        new=new,
        unit=unit,
        delta=None if obstacle else delta,
        judgement=judgement,
        reason=reason,
    )


def words(group: str, name: str, old: str | None, new: str | None) -> Row:
    """Return the row of two words."""
    judgement: Judgement = "equal" if old == new else "changed"
    return Row(group=group, name=name, old=old, new=new, judgement=judgement)


def _judge(
    old: float | None, new: float | None, better: Better, noise: float
) -> tuple[Judgement, str]:
    if old is None or new is None:
        return "changed", "measured on one side only"
    if old == new:
        return "equal", ""
    if abs(new - old) <= noise * abs(old):
        return "equal", f"within {100 * noise:g}%, which repeated runs differ by"
    if better == "none":
        return "changed", ""
    return ("better" if (new > old) == (better == "higher") else "worse"), ""
