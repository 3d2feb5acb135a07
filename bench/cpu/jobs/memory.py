"""What Linux says about this process's memory."""

from __future__ import annotations

from pathlib import Path


def status_kib(key: str) -> int:
    """Return an entry of /proc/self/status, such as `VmRSS` or its peak `VmHWM`, in KiB."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key))


def forget_peak() -> None:
    """Let `VmHWM` begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
