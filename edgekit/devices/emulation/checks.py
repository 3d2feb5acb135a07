"""The doctor's checks of an emulated board; the one of its system assembles it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import DeviceError
from edgekit.devices.checks import answer_of, run_checks
from edgekit.devices.emulation.boards import Board, board_of
from edgekit.devices.emulation.qemu import INSTALL, find_qemu, guest_command
from edgekit.devices.emulation.root import prepare_root, python_command, read_manifest
from edgekit.devices.native_build import build_program, host_triple, zig_version

if TYPE_CHECKING:
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target
    from edgekit.devices.session import Check

_IMPORTS = "import onnxruntime; print('onnxruntime', onnxruntime.__version__)"


def examine_emulated(target: Target, cache_dir: Path, progress: Progress) -> list[Check]:
    """Check everything a session on an emulated board uses."""
    board = board_of(target)
    return run_checks(
        {
            "qemu": lambda: f"{find_qemu().path}, version {find_qemu().version}",
            "core": lambda: _core(board),
            "zig": lambda: f"ziglang {zig_version()}",
            "system": lambda: _system(board, cache_dir, progress),
            "onnxruntime": lambda: _onnxruntime(board, cache_dir, progress),
            "device executable": lambda: _executable(board, cache_dir, progress),
            "instruction counter": lambda: _counter(board, cache_dir, progress),
        },
        progress,
    )


def _core(board: Board) -> str:
    if board.core not in find_qemu().cores:
        raise DeviceError(f"qemu has no core {board.core}", hint="Install qemu 7.2 or newer")
    return f"{board.core} ({board.model})"


def _system(board: Board, cache_dir: Path, progress: Progress) -> str:
    root = prepare_root(board, cache_dir, progress)
    manifest = read_manifest(root)
    num_packages = 0 if manifest is None else len(manifest.packages)
    return f"{root}, {num_packages} packages of Debian 12"


def _onnxruntime(board: Board, cache_dir: Path, progress: Progress) -> str:
    root = prepare_root(board, cache_dir, progress)
    program, variables = python_command(root, ["-c", _IMPORTS])
    command = guest_command(find_qemu(), board.core, root, program, variables=variables)
    return answer_of("Python in the emulator", command, cache_dir)


def _executable(board: Board, cache_dir: Path, progress: Progress) -> str:
    root = prepare_root(board, cache_dir, progress)
    program = build_program("device", "aarch64-linux-gnu", cache_dir)
    command = guest_command(find_qemu(), board.core, root, [str(program), "--version"])
    return answer_of("the device executable in the emulator", command, cache_dir)


def _counter(board: Board, cache_dir: Path, progress: Progress) -> str:
    qemu = find_qemu()
    if qemu.no_counting is not None:
        raise DeviceError(qemu.no_counting, hint=INSTALL)
    root = prepare_root(board, cache_dir, progress)
    counts = cache_dir / "devices" / "counter-check.txt"
    counts.unlink(missing_ok=True)
    command = guest_command(
        qemu,
        board.core,
        root,
        [str(build_program("device", "aarch64-linux-gnu", cache_dir)), "--version"],
        plugin=build_program("counter", host_triple(), cache_dir),
        variables={"EDGEKIT_COUNT_FILE": str(counts)},
    )
    answer_of("qemu with the instruction counter", command, cache_dir)
    if not counts.exists():
        raise DeviceError("the instruction counter wrote nothing", hint=INSTALL)
    return f"{counts.read_text(encoding='ascii').strip()} instructions in a self-test"
