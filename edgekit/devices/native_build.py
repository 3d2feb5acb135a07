"""Building the programs written in C: the device executable and the instruction counter.

Why zig: one pip package compiles for every target on any computer, without a system toolchain or
a sysroot, and links against the oldest C library wanted.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from edgekit.core.canonical import sha256_file, sha256_json
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import explain_os_errors

Program = Literal["device", "counter"]

SOURCES = Path(__file__).parent / "native"
INCLUDE = SOURCES / "include"
"""Folder of ek_model.h, the interface of compiled models."""

_FILES: dict[Program, tuple[str, ...]] = {
    "device": ("device.c", "files.c", "host.c", "job.c", "json.c", "library.c", "report.c"),
    "counter": ("insn_count.c",),
}
_COMMON = ("-std=c11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-O2", "-g0", "-s", "-Wall")
_FLAGS: dict[Program, tuple[str, ...]] = {
    "device": (*_COMMON, "-ldl", "-lm"),
    "counter": (*_COMMON, "-shared", "-fPIC"),
}
# The device executable depends on the C library alone, so one build for the oldest serves all.
_ZIG_TARGETS = {
    "x86_64-linux-gnu": "x86_64-linux-gnu.2.17",
    "aarch64-linux-gnu": "aarch64-linux-gnu.2.17",
    "arm-linux-gnueabihf": "arm-linux-gnueabihf.2.17",
    "armv7-linux-gnueabihf": "arm-linux-gnueabihf.2.17",
}
_TIMEOUT_S = 300


def build_program(program: Program, triple: str, cache_dir: Path) -> Path:
    """Return a program built for `triple`, from the cache when sources and zig are the same.

    Two builds at once do the work twice and end in the same file.

    Args:
        program: `device`, the device executable, or `counter`, the plugin for qemu.
        triple: Such as aarch64-linux-gnu.
        cache_dir: The program lies below it.

    Raises:
        InputError: ziglang is not installed, or no program is built for this triple.
        DeviceError: The compiler failed.
    """
    target = _zig_target(triple)
    place = cache_dir / "devices" / "native" / program_digest(program, triple)[:20] / program
    if place.exists():
        return place
    with (
        explain_os_errors(place),
        tempfile.TemporaryDirectory(dir=_made(place.parent)) as scratch,
    ):
        built = Path(scratch) / program
        _compile(_FILES[program], _FLAGS[program], target, built)
        built.replace(place)
    return place


def program_digest(program: Program, triple: str) -> str:
    """Return what changes whenever the built program may change."""
    files = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".c", ".h"})
    digests = {path.name: sha256_file(path) for path in files}
    return sha256_json([digests, _FLAGS[program], _zig_target(triple), _installed_zig()])


def zig_version() -> str:
    """Return the version of the compiler.

    Raises:
        InputError: It is not installed.
    """
    version = _installed_zig()
    if version is None:
        raise InputError(
            "Python package 'ziglang' builds the programs that run on devices and is not installed",
            hint="pip install ziglang",
        )
    return version


def host_triple() -> str:
    """Return this computer's triple."""
    machine = os.uname().machine
    return f"{machine}-linux-gnu" if machine != "armv7l" else "arm-linux-gnueabihf"


def _installed_zig() -> str | None:
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        return None


def _zig_target(triple: str) -> str:
    if triple not in _ZIG_TARGETS:
        raise InputError(
            "building a device program",
            found=f"triple {triple}",
            expected=" or ".join(sorted(_ZIG_TARGETS)),
        )
    return _ZIG_TARGETS[triple]


def _compile(files: tuple[str, ...], flags: tuple[str, ...], target: str, out: Path) -> None:
    zig_version()
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-o", str(out)]
    command += [str(SOURCES / name) for name in files] + list(flags)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            "building a device program with zig", found=f"no end after {_TIMEOUT_S} s"
        ) from error
    if done.returncode:
        raise DeviceError(
            f"building a device program with zig for {target}",
            found=done.stderr.strip()[-1500:] or f"exit status {done.returncode}",
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
