"""Finding qemu-user and starting programs for 64-bit Arm in it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgekit.core.errors import DeviceError
from edgekit.devices.session import Command

PROGRAM = "qemu-aarch64"
INSTALL = "apt-get install qemu-user"
# The counter speaks version 1 of qemu's plugin interface: in place since 4.2, gone with 9.0.
_PLUGIN_VERSIONS = ((4, 2), (9, 0))


class Qemu(NamedTuple):
    """Describe an installed qemu; `no_counting` says why instructions can't be counted."""

    path: Path
    version: str
    cores: frozenset[str]
    no_counting: str | None


@functools.cache
def find_qemu() -> Qemu:
    """Return the installed qemu-aarch64.

    Raises:
        DeviceError: It is not installed or does not start.
    """
    path = shutil.which(PROGRAM)
    if path is None:
        raise DeviceError(
            "emulating a 64-bit Arm board", found=f"no {PROGRAM} on the PATH", hint=INSTALL
        )
    version = re.search(r"version (\d+\.\d+(?:\.\d+)?)", _ask(path, "--version"))
    if version is None:
        raise DeviceError("asking qemu for its version", found="no answer", hint=INSTALL)
    cores = frozenset(_ask(path, "-cpu", "help").split())
    no_counting = _why_no_counting(version[1], _ask(path, "--help"))
    return Qemu(Path(path), version[1], cores, no_counting)


def guest_command(
    qemu: Qemu,
    core: str,
    root: Path,
    arguments: Sequence[str],
    *,
    plugin: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Command:
    """Return the command that runs an Arm program.

    Absolute paths of the program lead into the root where it has such a file, and to this
    computer's files otherwise. Of the environment the program sees `variables` only; they reach it
    through qemu's own environment, because its -E option splits values at commas.

    Args:
        qemu: The emulator.
        core: Core by qemu's name.
        root: Folder with the board's system.
        arguments: The program, by its real path, and its arguments.
        plugin: Instruction counter to load.
        variables: Environment of the program and of the plugin.
    """
    command = [str(qemu.path), "-cpu", core, "-L", str(root)]
    if plugin is not None:
        command += ["-plugin", str(plugin).replace(",", ",,")]
    return Command([*command, *arguments], variables or {})


def _why_no_counting(version: str, usage: str) -> str | None:
    low, high = _PLUGIN_VERSIONS
    found = tuple(int(part) for part in version.split(".")[:2])
    if not low <= found < high:
        return f"qemu {version} has another plugin interface: one from 4.2 to 8.x counts"
    if "-plugin" not in usage:
        return f"this qemu {version} takes no plugins (a static build): {INSTALL}"
    return None


def _ask(path: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"starting {path}", found=str(error), hint=INSTALL) from error
    return done.stdout
