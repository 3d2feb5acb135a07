"""Sessions: a device that is reached, its folder, and the jobs it runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

import msgspec

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.files import copy_tree, explain_os_errors, write_json
from edgekit.core.registry import registry
from edgekit.devices.identity import split_uri
from edgekit.devices.job import Job, JobResult, check_job, is_plain_path, parse_result
from edgekit.devices.process import run_program, signal_name
from edgekit.devices.work_folder import new_work_folder, remove_work_folder

if TYPE_CHECKING:
    from types import TracebackType

    from edgekit.core.progress import Progress
    from edgekit.core.target import Target

Measure = Literal["latency", "memory", "instructions"]


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a device.

    Args:
        kind: `local` or `emulated`; figures of an emulated device are labelled so everywhere.
        cpu_model: The processor's or board's own name.
        isa: Instruction set.
        features: CPU features by LLVM's names.
        cores: Number of cores.
        memory_mib: Memory of the device.
        os: Operating system.
        fingerprint: Changes whenever results on this device may change.
        measures: Which figures a job here can bring.
        notes: Why a figure is missing, or what the user should know about this device.
    """

    kind: Literal["local", "emulated"]
    cpu_model: str
    isa: str
    features: tuple[str, ...]
    cores: int
    memory_mib: int
    os: str
    fingerprint: str
    measures: frozenset[Measure]
    notes: tuple[str, ...] = ()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Report one thing a runner needs.

    Args:
        name: What was checked.
        ok: Whether it is as it should be.
        found: What was found.
        remedy: What to do, when it is not ok.
    """

    name: str
    ok: bool
    found: str
    remedy: str | None = None


class Command(NamedTuple):
    """Hold a program's arguments and its whole environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


class Machine(Protocol):
    """Know what differs between one machine whose files we can write and another."""

    info: DeviceInfo
    timeout_s: float

    def adapt(self, job: Job) -> Job:
        """Return the job as this machine can do it, or refuse it."""
        ...

    def command(self, job: Job, job_file: Path, result_file: Path) -> Command:
        """Return how the device program for the job's engine is started."""
        ...

    def complete(self, result: JobResult, job: Job, job_file: Path) -> JobResult:
        """Add what was measured from outside and drop what means nothing here."""
        ...

    def advice(self, signal: str) -> str:
        """Say what to do about a program that ended by `signal`."""
        ...


class Session(Protocol):
    """Reach a device; a context manager that leaves nothing behind.

    Attributes:
        folder: Local folder below which the output files of results lie.
    """

    folder: Path

    def probe(self) -> DeviceInfo:
        """Return what the device is."""
        ...

    def push(self, folder: Path, name: str | None = None) -> str:
        """Copy a folder to the device and return its name there, which starts jobs' paths."""
        ...

    def run(self, job: Job) -> JobResult:
        """Run a job and return its checked result.

        Raises:
            InputError: The job doesn't make sense.
            DeviceError: The device program failed, crashed, ran out of time or answered nonsense.
        """
        ...

    def clean(self) -> None:
        """Remove everything this session put on the device."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Runner(Protocol):
    """Reach devices by a URI; implementers are the entries of the runners' registry."""

    def identity(self, uri: str, target: Target, cache_dir: Path) -> dict[str, str]:
        """Return what identifies the device in a cache key."""
        ...

    def describe(self, uri: str, target: Target, cache_dir: Path) -> DeviceInfo:
        """Return what the device is, without preparing or changing anything."""
        ...

    def require(self, uri: str, target: Target) -> None:
        """Refuse at once what can be known to fail before a session is opened."""

    def open(
        self, uri: str, target: Target, cache_dir: Path, progress: Progress | None = None
    ) -> Session:
        """Prepare the device if needed and start a session."""
        ...

    def examine(self, uri: str, target: Target, cache_dir: Path, progress: Progress) -> list[Check]:
        """Check all that a session needs, prepare what can be prepared, and say what is missing."""
        ...


class FolderSession:
    """Run jobs on a machine that shares this computer's file system."""

    def __init__(self, machine: Machine, cache_dir: Path) -> None:
        self._machine = machine
        self.folder, self._lock = new_work_folder(cache_dir)
        self._num_jobs = 0

    def probe(self) -> DeviceInfo:
        """Return what the device is."""
        return self._machine.info

    def push(self, folder: Path, name: str | None = None) -> str:
        """Copy a folder into the session's folder, replacing an earlier one of that name.

        Raises:
            InputError: The folder does not exist, or the name is a path.
        """
        name = name or folder.resolve().name
        if not is_plain_path(name) or "/" in name or name.startswith("."):
            raise InputError("pushing a folder", found=repr(name), expected="a plain name")
        if not folder.is_dir():
            raise InputError("pushing a folder", found=f"no folder {folder}")
        place = self.folder / name
        with explain_os_errors(place):
            shutil.rmtree(place, ignore_errors=True)
            copy_tree(folder, place)
        return name

    def run(self, job: Job) -> JobResult:
        """Run a job; see `Session.run`."""
        check_job(job, self.folder)
        job = self._machine.adapt(job)
        self._num_jobs += 1
        job_file = self.folder / f"job-{self._num_jobs}.json"
        result_file = self.folder / f"result-{self._num_jobs}.json"
        shutil.rmtree(self.folder / job.outputs, ignore_errors=True)
        write_json(job_file, job)
        self._start(job, job_file, result_file)
        result = parse_result(result_file, job, self.folder)
        return self._machine.complete(result, job, job_file)

    def _start(self, job: Job, job_file: Path, result_file: Path) -> None:
        command = self._machine.command(job, job_file, result_file)
        doing = f"running engine '{job.engine}' on a device of kind '{self.probe().kind}'"
        ended = run_program(
            command.arguments,
            environment=command.environment,
            folder=self.folder,
            timeout_s=self._machine.timeout_s,
        )
        if ended.returncode is None:
            raise DeviceError(
                doing,
                found=f"no end after {self._machine.timeout_s:g} s",
                hint="Measure fewer images or runs, for example --set profile.num_images=100",
            )
        signal = signal_name(ended.returncode)
        if signal is not None:
            raise DeviceError(
                doing,
                found=f"the program was ended by {signal}{_quoted(ended.messages)}",
                hint=self._machine.advice(signal),
            )
        # Status 1 comes with a result that says why; it is read like any other.
        if ended.returncode not in (0, 1) or not result_file.exists():
            raise DeviceError(
                doing, found=f"exit status {ended.returncode}{_quoted(ended.messages)}"
            )

    def clean(self) -> None:
        """Remove the session's folder."""
        remove_work_folder(self.folder, self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clean()


def open_session(
    uri: str, target: Target, cache_dir: Path, progress: Progress | None = None
) -> Session:
    """Reach the device that a runner URI such as `local:` or `emulated:rpi4` names.

    Args:
        uri: Scheme, colon, and what the scheme's runner makes of the rest.
        target: What the models to run were compiled for.
        cache_dir: Folder for device programs, roots and temporary files.
        progress: Receives the advance when a device must be prepared first.

    Raises:
        InputError: Unknown scheme, or a rest that the runner cannot read.
        DeviceError: The device cannot be reached, or cannot run what is built for the target.
    """
    return _runner(uri).open(uri, target, cache_dir, progress)


def describe_device(uri: str, target: Target, cache_dir: Path) -> DeviceInfo:
    """Return what a runner URI leads to, without preparing or changing anything.

    Its fingerprint equals the one a session on the same URI reports.
    """
    return _runner(uri).describe(uri, target, cache_dir)


def _runner(uri: str) -> Runner:
    runner: Runner = registry("runners").get(split_uri(uri)[0])()
    return runner


def _quoted(messages: str) -> str:
    return f", saying: {messages[-600:]}" if messages else ""
