from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DeviceError
from edgekit.devices.job import DeviceState
from edgekit.devices.measure import doubts, refuse_throttled, summarise

times = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=50)


@given(times_us=times, num_threads=st.integers(1, 8))
def test_percentiles_are_ordered_and_in_milliseconds(
    times_us: list[float], num_threads: int
) -> None:
    latency = summarise(times_us, num_threads)
    figures = [latency.min_ms, latency.p50_ms, latency.p90_ms, latency.p99_ms]
    assert latency.min_ms == min(times_us) / 1e3
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(figures))
    assert latency.p99_ms <= max(times_us) / 1e3 * (1 + 1e-12)
    assert (latency.num_runs, latency.num_threads) == (len(times_us), num_threads)


def test_the_median_of_two_runs_lies_between_them() -> None:
    assert summarise([1000.0, 3000.0], 1).p50_ms == 2.0


def test_few_runs_are_doubted_and_none_are_not() -> None:
    assert "3 runs are too few" in doubts([1.0, 1.0, 1.0])[0]
    assert doubts([]) == ()
    assert doubts([1.0] * 50) == ()


@pytest.mark.parametrize(("late", "drift"), [(1.2, "+20%"), (0.5, "-50%")])
def test_a_drift_is_doubted(late: float, drift: str) -> None:
    (doubt,) = doubts([1.0] * 20 + [late] * 20)
    assert f"drifted by {drift}" in doubt


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        (None, None, False),
        (0x0, 0x0, False),
        (0x50000, 0x50000, False),  # it happened long ago, since the board was switched on
        (0x0, 0x50000, True),
        (0x50000, 0x50005, True),
        (0x4, 0x0, True),
    ],
)
def test_a_board_that_slows_down_is_refused(
    before: float | None, after: float | None, throttled: bool
) -> None:
    state = DeviceState(throttled=(before, after))
    if not throttled:
        refuse_throttled(state)
        return
    with pytest.raises(DeviceError, match=r"throttled board.*cooling"):
        refuse_throttled(state)
