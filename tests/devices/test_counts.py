from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DeviceError
from edgekit.devices.emulation.counts import add_counts
from edgekit.devices.job import Job, JobResult, StepTime

JOB = Job(
    engine="tvm", model="m", inputs=(), num_items=2, warmup_runs=1, num_runs=3, mode="latency"
)
RESULT = JobResult(status="ok")


def write(path: Path, runs: list[int], gap: int = 1000) -> Path:
    now, lines = 0, []
    for run in runs:
        now += gap
        lines += [now, now + run]
        now += run
    path.write_text("".join(f"{line}\n" for line in [*lines, now + gap]))
    return path


def test_items_and_warm_up_are_not_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "counts", [900, 800, 700, 10, 12, 11])
    assert add_counts(RESULT, JOB, file).instructions_per_run == 11


def test_steps_are_counted_one_by_one(tmp_path: Path) -> None:
    job = msgspec.structs.replace(JOB, mode="steps", num_runs=2)
    result = msgspec.structs.replace(RESULT, steps=(StepTime(name="a", us=1), StepTime(name="b")))
    file = write(tmp_path / "counts", [900, 800, 700, 1, 20, 3, 40])
    counted = add_counts(result, job, file)
    assert counted.steps is not None
    assert [step.instructions for step in counted.steps] == [2, 30]
    assert [step.us for step in counted.steps] == [None, None]
    assert counted.instructions_per_run == 32


@given(runs=st.lists(st.integers(0, 2**40), min_size=3, max_size=3), gap=st.integers(0, 2**40))
def test_what_happens_between_runs_does_not_matter(
    runs: list[int], gap: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write(tmp_path_factory.getbasetemp() / "counts", [0, 0, 0, *runs], gap)
    assert add_counts(RESULT, JOB, file).instructions_per_run == sorted(runs)[1]


def test_a_count_that_is_missing_is_found(tmp_path: Path) -> None:
    file = write(tmp_path / "counts", [1, 2, 3, 4, 5])
    with pytest.raises(DeviceError, match="found 10 marks, expected 12"):
        add_counts(RESULT, JOB, file)


@pytest.mark.parametrize("content", ["", "ten\n", "\xff"])
def test_a_file_without_counts_is_a_device_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "counts").write_text(content, encoding="latin-1")
    with pytest.raises(DeviceError, match="counting instructions"):
        add_counts(RESULT, JOB, tmp_path / "counts")
    with pytest.raises(DeviceError, match="no counts"):
        add_counts(RESULT, JOB, tmp_path / "absent")
