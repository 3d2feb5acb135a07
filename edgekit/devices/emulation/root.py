"""The system of an emulated board: Debian's arm64 libraries, Python and ONNX Runtime in a folder.

Nothing is installed and no root rights are needed: apt fetches the packages with a private state,
`dpkg -x` unpacks them, and qemu looks for a program's files below that folder first.

Why Debian 12 whatever this computer runs: its glibc (2.36) and Python (3.11) are what Raspberry Pi
OS ships, and every user gets the same root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edgekit.core.canonical import sha256_bytes, sha256_json
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import explain_os_errors, read_json, write_json
from edgekit.core.progress import Progress
from edgekit.devices.emulation.apt import download_packages
from edgekit.devices.emulation.boards import Board
from edgekit.devices.emulation.qemu import find_qemu, guest_command
from edgekit.devices.process import run_program

PACKAGES = (
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
)
"""The whole root: what Python, numpy and ONNX Runtime load, and nothing that starts a system."""

WHEELS = {
    "numpy==2.2.6": "b64d8d4d17135e00c8e346e0a738deb17e754230d7e0810ac5012750bbd85a5a",
    "onnxruntime==1.31.1": "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
}
"""Wheels for Python 3.11 on 64-bit Arm, with their SHA-256."""

_PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 17))
_VERSION = 1
_MANIFEST = "edgekit-root.json"
_SMOKE_TEST = "import ctypes, json, numpy, onnxruntime; onnxruntime.get_available_providers()"
_SYSTEM_FILES = {
    "sys/devices/system/cpu/possible": "0-3\n",
    "sys/devices/system/cpu/present": "0-3\n",
}
_CORES = 4


class RootManifest(msgspec.Struct, frozen=True, kw_only=True):
    """List what a root was made of: files of packages and wheels with their SHA-256."""

    recipe: str
    packages: dict[str, str]
    wheels: dict[str, str]


def root_recipe(board: Board) -> str:
    """Return the digest of everything that decides what a root contains."""
    cpuinfo = sha256_bytes(board.cpuinfo(_CORES).encode())
    return sha256_json([_VERSION, PACKAGES, WHEELS, _PLATFORMS, cpuinfo, _SYSTEM_FILES])


def root_folder(board: Board, cache_dir: Path) -> Path:
    """Return where the root of a board lies, or will lie."""
    return cache_dir / "devices" / "roots" / f"{board.core}-{root_recipe(board)[:16]}"


def read_manifest(root: Path) -> RootManifest | None:
    """Return what a finished root is made of; None when there is none."""
    path = root / _MANIFEST
    return read_json(path, RootManifest) if path.exists() else None


def prepare_root(board: Board, cache_dir: Path, progress: Progress) -> Path:
    """Return the root of a board, assembling it when it is missing.

    A root appears by a rename when it is complete. Downloads are kept, so that a build that was
    killed goes on with what it had. Two builds at once: the second waits for the first.

    Raises:
        DeviceError: Packages or wheels cannot be fetched, or the finished system does not run.
        InputError: A program needed for it is missing.
    """
    root = root_folder(board, cache_dir)
    if (root / _MANIFEST).exists():
        return root
    find_qemu()
    with explain_os_errors(root.parent):
        root.parent.mkdir(parents=True, exist_ok=True)
        # One lock for all boards: they share the downloads.
        with _lock(root.parent / ".lock", progress):
            if not (root / _MANIFEST).exists():
                _assemble(board, root, cache_dir / "devices" / "downloads", progress)
    return root


def python_command(root: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return arguments and environment that start the root's Python, without qemu's part."""
    # -P -s: nothing beside the program and nothing of this computer's user is imported. -B: the
    # root must stay as it was built.
    program = [str(root / "usr/bin/python3.11"), "-P", "-s", "-B", *arguments]
    variables = {
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": str(root / "python"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return program, variables


def _assemble(board: Board, root: Path, downloads: Path, progress: Progress) -> None:
    building = root.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)
    with progress.start(f"Assembling an emulated {board.model}", 5, "steps") as task:
        packages = download_packages(PACKAGES, downloads / "debian")
        task.advance()
        wheels = _download_wheels(downloads / "wheels")
        task.advance()
        building.mkdir(parents=True)
        for package in packages:
            _run(["dpkg", "-x", str(package), str(building)], "unpacking a Debian package")
        task.advance()
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(building / "python")
        for name, text in {"proc/cpuinfo": board.cpuinfo(_CORES), **_SYSTEM_FILES}.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        task.advance()
        _smoke_test(board, building)
        write_json(building / _MANIFEST, _manifest(board, packages, wheels))
        task.advance()
    building.replace(root)


def _manifest(board: Board, packages: Sequence[Path], wheels: Sequence[Path]) -> RootManifest:
    return RootManifest(
        recipe=root_recipe(board),
        packages={path.name: sha256_bytes(path.read_bytes()) for path in packages},
        wheels={path.name: sha256_bytes(path.read_bytes()) for path in wheels},
    )


def _smoke_test(board: Board, root: Path) -> None:
    # Without -B: Python leaves its compiled modules behind, which halves the start of every job.
    program, variables = python_command(root, ["-c", _SMOKE_TEST])
    program.remove("-B")
    command = guest_command(find_qemu(), board.core, root, program, variables=variables)
    ended = run_program(
        command.arguments, environment=command.environment, folder=root, timeout_s=300
    )
    if ended.returncode != 0:
        raise DeviceError(
            "starting ONNX Runtime in the emulated board",
            found=f"exit status {ended.returncode}: {ended.messages[-600:]}",
        )


def _download_wheels(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name} --hash=sha256:{digest}\n" for name, digest in WHEELS.items())
    requirements = folder / f"requirements-{sha256_json(WHEELS)[:8]}.txt"
    requirements.write_text(lines, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    command += [f"--platform={platform}" for platform in _PLATFORMS]
    command += ["--require-hashes", f"--requirement={requirements}", f"--dest={folder}"]
    _run(command, "fetching aarch64 wheels with pip", hint="Check the network and pip's settings")
    digests = {sha256_bytes(path.read_bytes()): path for path in sorted(folder.glob("*.whl"))}
    return [digests[digest] for digest in WHEELS.values()]


def _run(command: Sequence[str], doing: str, hint: str | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise InputError(doing, found=f"no program '{command[0]}'", hint="Use Debian or Ubuntu")
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode and "No module named pip" in done.stderr:
        raise InputError(doing, found="no pip", hint=f"{sys.executable} -m ensurepip")
    if done.returncode:
        raise DeviceError(doing, found=done.stderr.strip()[-1000:] or "a failure", hint=hint)


@contextlib.contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.message("Another build assembles the emulated board; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
