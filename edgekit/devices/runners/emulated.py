"""The runner `emulated:TARGET`: a board of that target, emulated by qemu on this computer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from edgekit.core.canonical import sha256_file, sha256_json
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.options import Meta, Options
from edgekit.core.progress import NullProgress
from edgekit.core.target import load_target
from edgekit.devices.emulation.boards import Board, board_of
from edgekit.devices.emulation.checks import examine_emulated
from edgekit.devices.emulation.counts import add_counts
from edgekit.devices.emulation.qemu import Qemu, find_qemu, guest_command
from edgekit.devices.emulation.root import prepare_root, python_command, root_recipe
from edgekit.devices.job import DeviceState
from edgekit.devices.native_build import build_program, host_triple, program_digest
from edgekit.devices.session import Command, DeviceInfo, FolderSession

if TYPE_CHECKING:
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target
    from edgekit.devices.job import Job, JobResult
    from edgekit.devices.session import Check, Measure, Session

ORT_DEVICE = Path(__file__).parents[1] / "ort_device.py"


class Emulated(Options, frozen=True, kw_only=True):
    """Emulate a board on this computer: exact results and instruction counts, no times."""

    timeout_s: Annotated[float, Meta(gt=0, description="Seconds until a job is given up")] = 3600

    def identity(self, uri: str, target: Target, cache_dir: Path) -> dict[str, str]:
        """Return what identifies the emulated board in a cache key."""
        return {"fingerprint": self.describe(uri, target, cache_dir).fingerprint}

    def describe(self, uri: str, target: Target, cache_dir: Path) -> DeviceInfo:
        """Return what the emulated board is, without assembling its system."""
        emulated = _emulated_target(uri, target)
        board = board_of(emulated)
        version, no_counting = _found_qemu()
        measures: frozenset[Measure] = frozenset() if no_counting else frozenset({"instructions"})
        parts = [
            root_recipe(board),
            version,
            sorted(measures),
            program_digest("device", emulated.os.triple),
            program_digest("counter", host_triple()),
            sha256_file(ORT_DEVICE),
        ]
        return DeviceInfo(
            kind="emulated",
            cpu_model=f"{board.model} ({board.core}), emulated by qemu {version}",
            isa=emulated.cpu.isa,
            features=emulated.cpu.features,
            cores=emulated.cpu.cores,
            memory_mib=emulated.memory_mib or 0,
            os="Debian GNU/Linux 12 (bookworm), arm64",
            fingerprint=sha256_json(parts),
            measures=measures,
            notes=() if no_counting is None else (no_counting,),
        )

    def require(self, uri: str, target: Target) -> None:
        """Refuse code of another processor, and a qemu that is missing or lacks the core."""
        _ready(uri, target)

    def open(
        self, uri: str, target: Target, cache_dir: Path, progress: Progress | None = None
    ) -> Session:
        """Assemble the board's system if needed and start a session; see `Runner.open`."""
        board, qemu = _ready(uri, target)
        root = prepare_root(board, cache_dir, progress or NullProgress())
        info = self.describe(uri, target, cache_dir)
        machine = _Emulator(info, self.timeout_s, board, qemu, root, cache_dir)
        return FolderSession(machine, cache_dir)

    def examine(self, uri: str, target: Target, cache_dir: Path, progress: Progress) -> list[Check]:
        """Check what an emulated board needs, and assemble its system."""
        return examine_emulated(_emulated_target(uri, target), cache_dir, progress)


class _Emulator:
    """Start device programs in qemu."""

    max_warmup_runs: ClassVar[int] = 1
    max_runs: ClassVar[int] = 3

    def __init__(
        self,
        info: DeviceInfo,
        timeout_s: float,
        board: Board,
        qemu: Qemu,
        root: Path,
        cache_dir: Path,
    ) -> None:
        self.info = info
        self.timeout_s = timeout_s
        self._board = board
        self._qemu = qemu
        self._root = root
        self._cache_dir = cache_dir

    def adapt(self, job: Job) -> Job:
        """Cut down on counted runs, which all count the same, and count with one thread.

        The counter adds without synchronisation, and threads that wait for work execute as many
        instructions as they like.
        """
        if job.mode == "outputs":
            return job
        if job.mode == "steps" and job.engine == "onnxruntime":
            raise DeviceError(
                "counting single operators of engine 'onnxruntime' in an emulator",
                hint="Time them on a device that reports latency, or use engine 'tvm'",
            )
        return msgspec.structs.replace(
            job,
            warmup_runs=min(job.warmup_runs, self.max_warmup_runs),
            num_runs=min(job.num_runs, self.max_runs),
            num_threads=1,
        )

    def command(self, job: Job, job_file: Path, result_file: Path) -> Command:
        files = [str(job_file), str(result_file)]
        if job.engine == "tvm":
            program = [str(build_program("device", "aarch64-linux-gnu", self._cache_dir)), *files]
            variables: dict[str, str] = {}
        else:
            program, variables = python_command(self._root, [str(ORT_DEVICE), *files])
        plugin = None
        if job.mode != "outputs" and self._qemu.no_counting is None:
            plugin = build_program("counter", host_triple(), self._cache_dir)
            variables |= {"EDGEKIT_MARK": "1", "EDGEKIT_COUNT_FILE": str(_count_file(job_file))}
        return guest_command(
            self._qemu, self._board.core, self._root, program, plugin=plugin, variables=variables
        )

    def complete(self, result: JobResult, job: Job, job_file: Path) -> JobResult:
        """Drop times and memory, which are this computer's, and add the counts."""
        result = msgspec.structs.replace(
            result,
            times_us=(),
            first_run_us=None,
            load_us=None,
            peak_rss_kib=None,
            device=DeviceState(cpu_model=self.info.cpu_model, cores=self.info.cores),
        )
        if job.mode == "outputs" or self._qemu.no_counting is not None:
            return msgspec.structs.replace(result, steps=None)
        return add_counts(result, job, _count_file(job_file))

    def advice(self, signal: str) -> str:
        if signal == "SIGILL":
            return (
                f"The model uses instructions that a {self._board.core} lacks: "
                f"compile it for a target with that core"
            )
        if signal == "SIGKILL":
            return "The system ended it, probably for lack of memory"
        return "The compiled model is at fault: build it again"


def _found_qemu() -> tuple[str, str | None]:
    # A missing qemu is refused when a session opens, not when a plan is made.
    try:
        return find_qemu().version, find_qemu().no_counting
    except DeviceError as error:
        return "missing", error.message()


def _ready(uri: str, target: Target) -> tuple[Board, Qemu]:
    emulated = _emulated_target(uri, target)
    _refuse_foreign_code(emulated, target)
    board, qemu = board_of(emulated), find_qemu()
    if board.core not in qemu.cores:
        raise DeviceError(
            f"emulating target '{emulated.name}'",
            found=f"qemu {qemu.version} without core {board.core}",
            hint="Install qemu 7.2 or newer",
        )
    return board, qemu


def _emulated_target(uri: str, target: Target) -> Target:
    rest = uri.partition(":")[2]
    return target if rest in {"", target.name} else load_target(rest)


def _refuse_foreign_code(emulated: Target, target: Target) -> None:
    doing = f"running what is built for target '{target.name}' on an emulated '{emulated.name}'"
    if target.os.triple != emulated.os.triple:
        raise InputError(doing, found=target.os.triple, expected=emulated.os.triple)
    missing = [name for name in target.cpu.features if name not in emulated.cpu.features]
    if missing:
        raise DeviceError(
            doing,
            found=f"a board without {', '.join(missing)}",
            hint=f"Use the runner emulated:{target.name}",
        )


def _count_file(job_file: Path) -> Path:
    return job_file.with_suffix(".counts")
