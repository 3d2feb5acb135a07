from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edgekit.devices.process import run_program, signal_name

PYTHON = sys.executable


def test_what_a_program_prints_last_is_kept(tmp_path: Path) -> None:
    code = "import sys; print('x' * 100000); print('the end', file=sys.stderr); sys.exit(3)"
    ended = run_program([PYTHON, "-c", code], environment={}, folder=tmp_path, timeout_s=20)
    assert ended.returncode == 3
    assert ended.messages.endswith("the end")
    assert len(ended.messages) <= 4096
    assert list(tmp_path.iterdir()) == []


def test_a_program_sees_its_environment_only(tmp_path: Path) -> None:
    code = "import os; print(sorted(os.environ))"
    ended = run_program(
        [PYTHON, "-I", "-c", code], environment={"A": "1"}, folder=tmp_path, timeout_s=20
    )
    assert "'A', 'EDGEKIT_PARENT'" in ended.messages
    assert "HOME" not in ended.messages


def test_children_of_a_program_end_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(child.pid)"
    )
    ended = run_program([PYTHON, "-c", code], environment={}, folder=tmp_path, timeout_s=20)
    stat = Path(f"/proc/{int(ended.messages)}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_that_takes_too_long_has_no_status(tmp_path: Path) -> None:
    start = time.monotonic()
    code = "import time; time.sleep(60)"
    ended = run_program([PYTHON, "-c", code], environment={}, folder=tmp_path, timeout_s=0.3)
    assert ended.returncode is None
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("returncode", "name"),
    [(0, None), (1, None), (-11, "SIGSEGV"), (139, "SIGSEGV"), (132, "SIGILL"), (200, None)],
)
def test_signals_are_named(returncode: int, name: str | None) -> None:
    assert signal_name(returncode) == name
