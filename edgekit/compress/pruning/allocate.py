"""How many channels each group keeps, so that the model as a whole loses what was asked for."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.core.errors import InputError, StageError

if TYPE_CHECKING:
    import torch

    from edgekit.compress.pruning.groups import Group

By = Literal["macs", "params", "channels"]
Scope = Literal["global", "layer"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """State what every group must keep.

    Attributes:
        min_channels: At least so many channels stay; a group with fewer keeps all.
        round_to: The channels that stay are a multiple of this, or all.
    """

    min_channels: int = 1
    round_to: int = 1

    def allowed(self, group: Group) -> list[int]:
        """Return the numbers of units a group may keep, ascending; never 0."""
        least = max(self.min_channels, 1)
        counts = [
            units
            for units in range(1, group.num_units)
            if units * group.unit_size >= least and units * group.unit_size % self.round_to == 0
        ]
        return [*counts, group.num_units]


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Say which units stay.

    Attributes:
        kept: Units to keep by group name, ascending.
        requested: Share of the cost that should go.
        achieved: Share that goes; at least what was requested.
        step: Share that the rounding step which reached the request removed; the excess of
            `achieved` over `requested` is smaller.
    """

    kept: dict[str, tuple[int, ...]]
    requested: float
    achieved: float
    step: float


def allocate(
    groups: Sequence[Group],
    scores: Mapping[str, torch.Tensor],
    cost_of: Callable[[Mapping[str, tuple[int, ...]]], float],
    *,
    ratio: float,
    limits: Limits,
    scope: Scope = "global",
) -> Allocation:
    """Remove the least important units until `ratio` of the cost is gone.

    Units go in the order of their scores: over all groups (`global`), or the same share of every
    group (`layer`). Each group keeps the nearest allowed number of its best units. The cost falls
    as units go, so a binary search finds where it first reaches the request. Rounding may have
    overshot by then; groups get one step back each as long as the request stays met.

    Args:
        groups: What can be removed.
        scores: One score per unit by group name, higher is more important.
        cost_of: Cost of the whole model when only these units stay.
        ratio: Share of the cost to remove, from 0 up to 1.
        limits: What each group must keep.
        scope: How groups compete.

    Raises:
        InputError: The limits don't allow removing so much; the layer that would run out is named.
        StageError: A score is not finite.
    """
    check_reachable(groups, cost_of, ratio=ratio, limits=limits)
    ranked = {group.name: _ranking(group, scores[group.name]) for group in groups}
    order = _removal_order(groups, scores, ranked, scope)
    allowed = {group.name: limits.allowed(group) for group in groups}
    full = {group.name: group.num_units for group in groups}
    whole = cost_of(_best(ranked, full)) if groups else 1.0

    def share(counts: Mapping[str, int]) -> float:
        return 1.0 - cost_of(_best(ranked, counts)) / whole if groups else 0.0

    def counts_without(num_units: int) -> dict[str, int]:
        gone = Counter(order[:num_units])
        return {name: _nearest(allowed[name], full[name] - gone[name]) for name in full}

    least = bisect.bisect_left(range(len(order)), ratio, key=lambda n: share(counts_without(n)))
    reached = counts_without(least)
    counts = _give_back(reached, allowed, share, ratio)
    return Allocation(
        kept=_best(ranked, counts),
        requested=ratio,
        achieved=share(counts),
        step=share(reached) - share(counts_without(max(least - 1, 0))),
    )


def check_reachable(
    groups: Sequence[Group],
    cost_of: Callable[[Mapping[str, tuple[int, ...]]], float],
    *,
    ratio: float,
    limits: Limits,
) -> None:
    """Refuse a ratio that would leave a layer without channels.

    Raises:
        InputError: Even at the fewest channels allowed, less than `ratio` of the cost is gone.
    """
    if not groups and ratio > 0:
        raise InputError(
            f"ratio is {ratio}",
            found="no channels that may be removed",
            hint="Check `ignored`; the layer that gives the model's output is never cut",
        )
    fewest = {group.name: tuple(range(limits.allowed(group)[0])) for group in groups}
    whole = {group.name: tuple(range(group.num_units)) for group in groups}
    most = 1.0 - cost_of(fewest) / cost_of(whole) if groups else 0.0
    if ratio <= most:
        return
    first = min(groups, key=lambda group: group.num_channels)
    least = limits.allowed(first)[0] * first.unit_size
    raise InputError(
        f"ratio is {ratio} and would leave layer '{first.name}' fewer than {least} "
        f"of its {first.num_channels} channels",
        expected=f"at most {math.floor(most * 1000) / 1000}",
        hint="Lower ratio, round_to or min_channels, or list fewer modules under `ignored`",
    )


def _ranking(group: Group, scores: torch.Tensor) -> list[int]:
    """Return the units of a group from most to least important, lower numbers first on a tie."""
    values = scores.tolist()
    if not all(math.isfinite(value) for value in values):
        raise StageError(
            f"scoring the channels of '{group.name}'",
            found="NaN or infinite scores",
            expected="finite scores",
            hint="Check the weights of the model before this stage",
        )
    return sorted(range(group.num_units), key=lambda unit: (-values[unit], unit))


def _removal_order(
    groups: Sequence[Group],
    scores: Mapping[str, torch.Tensor],
    ranked: Mapping[str, list[int]],
    scope: Scope,
) -> list[str]:
    """Return, unit by unit, the group that loses one next."""
    entries: list[tuple[float, int, str]] = []
    for group in groups:
        for place, unit in enumerate(reversed(ranked[group.name])):
            share = (place + 1) / group.num_units
            score = share if scope == "layer" else float(scores[group.name][unit])
            entries.append((score, len(entries), group.name))
    return [name for _, _, name in sorted(entries)]


def _give_back(
    counts: dict[str, int],
    allowed: Mapping[str, list[int]],
    share: Callable[[Mapping[str, int]], float],
    ratio: float,
) -> dict[str, int]:
    """Give one step back to each group that can take it, the largest that fits first."""
    waiting = set(counts)
    while True:
        trials = []
        for name in sorted(waiting):
            more = [count for count in allowed[name] if count > counts[name]]
            trial = {**counts, name: more[0]} if more else counts
            trials.append((share(trial), name, trial))
        fitting = [trial for trial in trials if trial[0] >= ratio and trial[2] is not counts]
        if not fitting:
            return counts
        _, name, counts = min(fitting, key=lambda trial: trial[:2])
        waiting.discard(name)


def _best(ranked: Mapping[str, list[int]], counts: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(sorted(units[: counts[name]])) for name, units in ranked.items()}


def _nearest(allowed: list[int], count: int) -> int:
    return min(allowed, key=lambda candidate: (abs(candidate - count), -candidate))
