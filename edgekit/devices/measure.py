"""Turning timed runs into figures, and refusing those that something disturbed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from edgekit.core.errors import DeviceError
from edgekit.core.report import Latency
from edgekit.devices.job import DeviceState

_NOW = 0b1111
_HAPPENED_SHIFT = 16
_DRIFT_LIMIT = 0.10
_FEW_RUNS = 20


def summarise(times_us: Sequence[float], num_threads: int) -> Latency:
    """Return the percentiles of counted runs, in milliseconds.

    Args:
        times_us: At least one duration in microseconds.
        num_threads: Threads the engine really used.
    """
    from edgekit.arithmetic.statistics import percentile

    return Latency(
        p50_ms=percentile(times_us, 50) / 1e3,
        p90_ms=percentile(times_us, 90) / 1e3,
        p99_ms=percentile(times_us, 99) / 1e3,
        min_ms=min(times_us) / 1e3,
        num_runs=len(times_us),
        num_threads=num_threads,
    )


def doubts(times_us: Sequence[float]) -> tuple[str, ...]:
    """Return warnings about counted runs that a median alone would hide; none without runs."""
    found = []
    if 0 < len(times_us) < _FEW_RUNS:
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
    happened = (after & ~before) >> _HAPPENED_SHIFT
    if (before | after | happened) & _NOW:
        raise DeviceError(
            "measuring latency",
            found=f"a throttled board (flags {before:#x} before, {after:#x} after)",
            hint="Improve its cooling and power supply, let it cool down, and measure again",
        )
