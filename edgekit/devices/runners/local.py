"""The runner `local:`: this computer itself."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from edgekit.core.canonical import sha256_file, sha256_json
from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.core.target import cpu_model, host_cpu
from edgekit.devices import cpu
from edgekit.devices.checks import examine_local
from edgekit.devices.native_build import build_program, host_triple, program_digest
from edgekit.devices.session import Command, DeviceInfo, FolderSession

if TYPE_CHECKING:
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target
    from edgekit.devices.job import Job, JobResult
    from edgekit.devices.session import Check, Session

ORT_DEVICE = Path(__file__).parents[1] / "ort_device.py"


class Local(Options, frozen=True, kw_only=True):
    """Run on this computer: real latency and memory."""

    timeout_s: Annotated[float, Meta(gt=0, description="Seconds until a job is given up")] = 900

    def identity(self, uri: str, target: Target, cache_dir: Path) -> dict[str, str]:
        """Return what identifies this computer in a cache key."""
        return {"fingerprint": self.describe(uri, target, cache_dir).fingerprint}

    def describe(self, uri: str, target: Target, cache_dir: Path) -> DeviceInfo:
        """Return what this computer is."""
        _refuse_rest(uri)
        info = DeviceInfo(
            kind="local",
            cpu_model=cpu_model(),
            isa=host_cpu().isa,
            features=host_cpu().features,
            cores=host_cpu().cores,
            memory_mib=cpu.memory_mib(),
            os=cpu.os_name(),
            fingerprint="",
            measures=frozenset({"latency", "memory"}),
        )
        seen = msgspec.to_builtins(info)
        seen["measures"] = sorted(info.measures)
        del seen["memory_mib"]  # a virtual machine's differs from start to start
        return msgspec.structs.replace(info, fingerprint=sha256_json([seen, _programs()]))

    def require(self, uri: str, target: Target) -> None:
        """Refuse code that this processor cannot run."""
        _refuse_rest(uri)
        cpu.refuse_foreign_code(target)

    def open(
        self, uri: str, target: Target, cache_dir: Path, progress: Progress | None = None
    ) -> Session:
        """Start a session on this computer; see `Runner.open`."""
        self.require(uri, target)
        info = self.describe(uri, target, cache_dir)
        return FolderSession(_Computer(info, self.timeout_s, cache_dir), cache_dir)

    def examine(self, uri: str, target: Target, cache_dir: Path, progress: Progress) -> list[Check]:
        """Check what a session on this computer needs."""
        _refuse_rest(uri)
        return examine_local(target, cache_dir, progress)


class _Computer:
    """Start the device programs of this computer."""

    remedies: ClassVar[dict[str, str]] = {
        "SIGILL": "The model uses instructions this processor lacks: build for --target host",
        "SIGKILL": "The system ended it, probably for lack of memory",
    }

    def __init__(self, info: DeviceInfo, timeout_s: float, cache_dir: Path) -> None:
        self.info = info
        self.timeout_s = timeout_s
        self._cache_dir = cache_dir

    def adapt(self, job: Job) -> Job:
        return job

    def command(self, job: Job, job_file: Path, result_file: Path) -> Command:
        if job.engine == "tvm":
            program = [str(build_program("device", host_triple(), self._cache_dir))]
        else:
            _require_onnxruntime()
            # -P: modules beside the program must not shadow the standard library's
            program = [sys.executable, "-P", str(ORT_DEVICE)]
        return Command([*program, str(job_file), str(result_file)], os.environ)

    def complete(self, result: JobResult, job: Job, job_file: Path) -> JobResult:
        return result

    def advice(self, signal: str) -> str:
        return self.remedies.get(signal, "The compiled model is at fault: build it again")


def _refuse_rest(uri: str) -> None:
    rest = uri.partition(":")[2]
    if rest:
        raise InputError(f"runner '{uri}'", found=f"'{rest}' behind the colon", expected="local:")


def _require_onnxruntime() -> None:
    if _installed_onnxruntime() is None:
        raise InputError(
            "Python package 'onnxruntime' runs ONNX models and is not installed",
            hint="pip install 'edgekit[onnx]'",
        )


def _installed_onnxruntime() -> str | None:
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return None


def _programs() -> list[str | None]:
    # A missing package is refused when a job needs it, not when a plan is made.
    return [
        program_digest("device", host_triple()),
        _installed_onnxruntime(),
        sha256_file(ORT_DEVICE),
    ]
