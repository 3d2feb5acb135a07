"""`python -m edgekit.compiler.child JOB FOLDER FD`: compile in a process that may die.

TVM and LLVM are native code that models from anywhere reach; a crash here costs this process
only. Events go up the pipe as JSON lines, each before the work it names, so the last one tells
where the process ended.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgekit.compiler.build_library import CompileJob, Watch, build_library, read_model
from edgekit.compiler.engine_build import EngineBuild
from edgekit.core.errors import DeviceError, EdgekitError, InputError, StageError
from edgekit.core.files import explain_os_errors

if TYPE_CHECKING:
    import tvm

_PR_SET_PDEATHSIG = 1


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Carry an error to the parent, part by part."""

    kind: Literal["InputError", "StageError", "DeviceError"]
    doing: str
    found: str | None = None
    expected: str | None = None
    hint: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Say what happens next, or how it ended.

    Args:
        phase: A new phase began.
        detail: An operator or a kernel is next; empty when it is over.
        native_pass: A pass of TVM is next.
        build: All is done.
        failure: It ended in an error with a message.
    """

    phase: str | None = None
    detail: str | None = None
    native_pass: str | None = None
    build: EngineBuild | None = None
    failure: Failure | None = None


def main(arguments: list[str]) -> int:
    """Compile one job.

    Args:
        arguments: Path of the job, folder to work in, file descriptor for events.
    """
    job_path, folder, descriptor = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    # Whoever kills the parent outright must not leave a compiler behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    job = msgspec.json.decode(job_path.read_bytes(), type=CompileJob)
    limit = job.memory_limit_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def send(event: Event) -> None:
        os.write(descriptor, msgspec.json.encode(event) + b"\n")

    try:
        with explain_os_errors(Path(job.out)):
            build = _build(job, folder, send)
        send(Event(build=build))
    except (InputError, StageError, DeviceError) as error:
        send(Event(failure=_failure(error)))
    except MemoryError:
        send(Event(failure=_out_of_memory(job)))
    return 0


def _build(job: CompileJob, folder: Path, send: Callable[[Event], None]) -> EngineBuild:
    watch = Watch(
        phase=lambda name: send(Event(phase=name)),
        detail=lambda name: send(Event(detail=name)),
    )
    model = read_model(job, watch)
    watch.detail("package 'tvm'")
    # TVM's interface imports torch where it is installed: three seconds and 200 MiB for nothing.
    sys.modules["torch"] = None  # type: ignore[assignment]
    import tvm

    # TVM's own handler walks the stack for a minute before the process ends.
    for crash in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        signal.signal(crash, signal.SIG_DFL)

    @tvm.ir.instrument.pass_instrument
    class Announce:
        """Name every pass of TVM before it runs."""

        def run_before_pass(self, _module: tvm.IRModule, info: tvm.ir.transform.PassInfo) -> None:
            send(Event(native_pass=str(info.name)))

    with tvm.transform.PassContext(opt_level=3, instruments=[Announce()]):
        return build_library(job, model, folder, watch)


def _failure(error: EdgekitError) -> Failure:
    kind: Literal["InputError", "StageError", "DeviceError"] = "StageError"
    if isinstance(error, InputError):
        kind = "InputError"
    elif isinstance(error, DeviceError):
        kind = "DeviceError"
    return Failure(
        kind=kind,
        doing=error.doing,
        found=error.found,
        expected=error.expected,
        hint=error.hint,
    )


def _out_of_memory(job: CompileJob) -> Failure:
    return Failure(
        kind="StageError",
        doing="compiling the model",
        found=f"more than {job.memory_limit_mib} MiB of memory in use",
        hint="Raise memory_limit_mib of engine tvm",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
