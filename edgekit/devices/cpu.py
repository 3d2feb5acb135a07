"""This computer's processor and memory, and whether code for a target runs on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgekit.core.errors import DeviceError
from edgekit.core.target import Target, host_cpu


def refuse_foreign_code(target: Target) -> None:
    """Refuse a target whose code this computer cannot execute.

    Raises:
        DeviceError: Another instruction set, or features the processor doesn't have.
    """
    own = host_cpu()
    doing = f"running what is built for target '{target.name}' on this computer"
    if own.isa != target.cpu.isa:
        raise DeviceError(
            doing,
            found=f"a processor of kind {own.isa}",
            expected=target.cpu.isa,
            hint="Name a runner that reaches such a device, for example "
            f"--runner {target.name}=emulated:{target.name}, or build for --target host",
        )
    missing = missing_features(target)
    if missing:
        raise DeviceError(
            doing,
            found=f"a processor without {', '.join(missing)}",
            expected="every feature the target's code uses",
            hint="Build for a target this computer fulfils (--target host), or measure on a "
            "machine that has them",
        )


def runs_here(target: Target) -> bool:
    """Tell whether this computer can execute code for a target."""
    return host_cpu().isa == target.cpu.isa and not missing_features(target)


def missing_features(target: Target) -> tuple[str, ...]:
    """Return the target's CPU features that this computer lacks, in the target's order."""
    own = {*host_cpu().features, *(_plain(flag) for flag in _flags())}
    return tuple(
        name for name in target.cpu.features if name not in own and _plain(name) not in own
    )


def memory_mib() -> int:
    """Return this computer's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def os_name() -> str:
    """Return the operating system's own name, such as `Debian GNU/Linux 12 (bookworm)`."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


def governor() -> str | None:
    """Return Linux's clock policy for the first core, or None when it doesn't tell."""
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return {
        flag
        for key, _, value in lines
        if key.strip().lower() in {"flags", "features"}
        for flag in value.split()
    }


def _plain(name: str) -> str:
    # Linux and LLVM spell some features differently: avx512_vnni and avx512vnni, sse4_1, sse4.1.
    return name.replace("_", "").replace(".", "")
