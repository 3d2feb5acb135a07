"""Temporary folders for jobs that never pile up, even when edgekit is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgekit.core.files import explain_os_errors

_LOCK = ".in-use"


def new_work_folder(cache_dir: Path) -> tuple[Path, int]:
    """Make an empty folder below `cache_dir`, and remove those whose owner is gone.

    Returns:
        The folder, and a file descriptor that marks it as in use while it is open; the kernel
        closes it whatever becomes of this process.
    """
    parent = cache_dir / "devices" / "work"
    with explain_os_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        # One lock over all folders: between making a folder and marking it, none may sweep.
        with _locked(parent):
            _sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix="job-", dir=parent))
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def remove_work_folder(folder: Path, lock: int) -> None:
    """Remove a folder made by `new_work_folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.close(lock)


def _sweep(parent: Path) -> None:
    for folder in parent.glob("job-*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
