"""Turning timed runs into figures: percentiles, how sure they are, and what disturbed them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from edgekit.core.errors import DeviceError
from edgekit.core.report import Latency
from edgekit.devices.job import DeviceState

_UNDER_VOLTAGE_OR_THROTTLED = 0b1111
_HAS_HAPPENED_SHIFT = 16
_DRIFT_LIMIT = 0.10
_FEW_RUNS = 20


def summarise(times_us: Sequence[float], num_threads: int) -> Latency:
    """Return the percentiles of counted runs, in milliseconds.

    Args:
        times_us: At least one duration in microseconds.
        num_threads: Threads the engine really used.
    """
    return Latency(
        p50_ms=percentile(times_us, 50) / 1e3,
        p90_ms=percentile(times_us, 90) / 1e3,
        p99_ms=percentile(times_us, 99) / 1e3,
        min_ms=min(times_us) / 1e3,
        num_runs=len(times_us),
        num_threads=num_threads,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, interpolated linearly between the two nearest values.

    Args:
        values: At least one number.
        percent: 0 is the smallest value, 100 the largest.
    """
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    if ordered[below] == ordered[above]:
        return ordered[below]
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return two of the values between which the true median lies with at least `confidence`.

    With too few values for that confidence the smallest and largest are returned.

    Source: order statistics; the number of values below the median is binomial (n, 1/2), so the
    interval needs no assumption about the shape of the distribution. Latencies are skewed, which
    rules out the usual plus-minus two standard errors.
    """
    ordered = sorted(values)
    size = len(ordered)
    outside = 0.0
    rank = 0
    while rank < (size - 1) // 2:
        outside += 2 * math.comb(size, rank) / 2**size
        if outside > 1 - confidence:
            break
        rank += 1
    rank = max(0, rank - 1)
    return ordered[rank], ordered[size - 1 - rank]


def doubts(times_us: Sequence[float]) -> tuple[str, ...]:
    """Return warnings about counted runs that a median alone would hide."""
    found = []
    if len(times_us) < _FEW_RUNS:
        found.append(f"{len(times_us)} runs are too few for a p99")
    half = len(times_us) // 2
    if half >= _FEW_RUNS // 2:
        early = statistics.median(times_us[:half])
        late = statistics.median(times_us[-half:])
        if early > 0 and abs(late / early - 1) > _DRIFT_LIMIT:
            found.append(
                f"latency drifted by {late / early - 1:+.0%} between the first and the second half "
                "of the runs: more warm-up runs or a quieter device are needed"
            )
    return tuple(found)


def refuse_throttled(state: DeviceState) -> None:
    """Refuse figures of a board that slowed itself down during the job.

    Source: Raspberry Pi documentation, `vcgencmd get_throttled`: bits 0-3 say under-voltage,
    capped frequency, throttling and soft temperature limit now, bits 16-19 that they happened.

    Raises:
        DeviceError: It was throttled before, during or after the job.
    """
    before, after = (0 if bits is None else int(bits) for bits in state.throttled)
    now = (before | after) & _UNDER_VOLTAGE_OR_THROTTLED
    happened = (after & ~before) >> _HAS_HAPPENED_SHIFT & _UNDER_VOLTAGE_OR_THROTTLED
    if now or happened:
        raise DeviceError(
            "measuring latency",
            found=f"a throttled board (flags {before:#x} before, {after:#x} after)",
            hint="Improve its cooling and power supply, let it cool down, and measure again",
        )
