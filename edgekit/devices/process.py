"""Starting a device program so that nothing of it outlives the job."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

_TAIL_BYTES = 4096


class Finished(NamedTuple):
    """Tell how a program ended; `returncode` is None when it ran out of time, -N for signal N."""

    returncode: int | None
    messages: str
    duration_s: float


def run_program(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, timeout_s: float
) -> Finished:
    """Run a program in its own process group and kill the whole group whatever happens.

    An interrupt (Ctrl-C) reaches only edgekit, which ends the group and passes the interrupt on.
    When edgekit itself is killed, device programs end by themselves: they watch the process named
    in EDGEKIT_PARENT.

    Args:
        command: Program and arguments.
        environment: The whole environment of the program.
        folder: Its working directory.
        timeout_s: Seconds until it is killed.

    Returns:
        How it ended, with the last 4 KiB of what it printed.
    """
    with tempfile.TemporaryFile(dir=folder) as printed:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**environment, "EDGEKIT_PARENT": str(os.getpid())},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            returncode: int | None = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            returncode = None
        finally:
            _kill_group(process)
        return Finished(returncode, _tail(printed), time.monotonic() - start)


def signal_name(returncode: int) -> str | None:
    """Return the name of the signal that ended a program, such as SIGILL, or None.

    Shells and qemu report 128 + N instead of -N.
    """
    number = -returncode if returncode < 0 else returncode - 128
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The group is killed even after a normal end: what the program left behind must not stay.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(printed: IO[bytes]) -> str:
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _TAIL_BYTES))
    return printed.read().decode(errors="replace").strip()
