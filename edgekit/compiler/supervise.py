"""Run the compiler in a child process and turn whatever happens to it into a message.

The child leads its own process group, so that an interrupt or a time-out ends the linker it
started as well. When it crashes, its folder stays: the model, the job and the log are what a bug
report needs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edgekit.compiler.build_library import PHASES, CompileJob
from edgekit.compiler.child import Event, Failure
from edgekit.compiler.engine_build import EngineBuild
from edgekit.core.errors import DeviceError, EdgekitError, InputError, StageError, require_module
from edgekit.core.progress import Progress

# -P: the folder the user happens to be in is no place to import modules from.
CHILD = (sys.executable, "-P", "-m", "edgekit.compiler.child")
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_ERRORS: dict[str, type[EdgekitError]] = {
    kind.__name__: kind for kind in (InputError, StageError, DeviceError)
}


class _Place:
    """Remember the last thing the child announced."""

    def __init__(self) -> None:
        self.phase = "start"
        self.detail = ""
        self.native_pass = ""

    def note(self, event: Event) -> bool:
        """Take an event; return whether a new phase began."""
        if event.phase is not None:
            self.phase, self.detail, self.native_pass = event.phase, "", ""
        elif event.detail is not None:
            self.detail, self.native_pass = event.detail, ""
        elif event.native_pass is not None:
            self.native_pass = event.native_pass
        return event.phase is not None

    def __str__(self) -> str:
        parts = [f"phase '{self.phase}'"]
        if self.native_pass:
            parts.append(f"pass '{self.native_pass}'")
        if self.detail:
            parts.append(self.detail)
        return ", ".join(parts)


def compile_in_child(
    job: CompileJob,
    *,
    timeout_s: float,
    progress: Progress,
    command: Sequence[str] = CHILD,
) -> EngineBuild:
    """Compile a job in a child process.

    Args:
        job: What to compile.
        timeout_s: Seconds after which the child is ended.
        progress: Shown every phase.
        command: What to run; the job, the folder and a file descriptor are appended.

    Returns:
        What was built.

    Raises:
        InputError: The model or the target cannot be compiled, or a package is missing.
        StageError: The child crashed, ran out of time or memory, or broke a promise; the message
            names where it was and the folder that reproduces it.
    """
    for module in ("tvm", "ziglang"):
        if importlib.util.find_spec(module) is None:  # importing TVM takes seconds; finding, none
            require_module(module, "tvm")
    folder = Path(tempfile.mkdtemp(prefix="edgekit-compile-"))
    keep = False
    try:
        return _run(job, folder, list(command), timeout_s, progress)
    except StageError:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _run(
    job: CompileJob, folder: Path, command: list[str], timeout_s: float, progress: Progress
) -> EngineBuild:
    job_path, log_path = folder / "job.json", folder / "log.txt"
    work = folder / "work"
    work.mkdir()
    job_path.write_bytes(msgspec.json.encode(job))
    place = _Place()
    reader, writer = os.pipe()
    with log_path.open("wb") as log, os.fdopen(reader, "rb", buffering=0) as events:
        process = subprocess.Popen(
            [*command, str(job_path), str(work), str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=(writer,),
            start_new_session=True,
        )
        os.close(writer)
        end: Event | None = None
        try:
            with progress.start("compile", len(PHASES), "phases") as task:
                for event in _events(events.fileno(), time.monotonic() + timeout_s):
                    if place.note(event):
                        task.advance()
                    end = event if event.build or event.failure else end
            process.wait(timeout=30)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise _reproducible(
                job, folder, command, f"no result after {timeout_s:g} s", place
            ) from error
        finally:
            _end(process)
    if end is not None and end.build is not None:
        return end.build
    if end is not None and end.failure is not None:
        raise _error(end.failure)
    raise _reproducible(job, folder, command, _how_it_ended(process.returncode, log_path), place)


def _environment() -> dict[str, str]:
    """Return an environment in which the child finds this very edgekit."""
    paths = [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONHASHSEED": "0",  # no order of a set may reach the generated bytes
    }


def _events(descriptor: int, deadline: float) -> Iterator[Event]:
    """Yield events until the child closes its end.

    Raises:
        TimeoutError: The deadline passed.
    """
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            data = os.read(descriptor, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line, type=Event)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _error(failure: Failure) -> EdgekitError:
    return _ERRORS[failure.kind](
        failure.doing, found=failure.found, expected=failure.expected, hint=failure.hint
    )


def _how_it_ended(status: int, log_path: Path) -> str:
    if status < 0:
        try:
            return f"a crash ({signal.Signals(-status).name})"
        except ValueError:
            return f"a crash (signal {-status})"
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last[:300] or f"exit status {status}"


def _reproducible(
    job: CompileJob, folder: Path, command: Sequence[str], found: str, place: _Place
) -> StageError:
    """Leave everything needed to see it again, and say where."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    for name in ("work", "out"):
        (folder / name).mkdir()
    model = folder / "model.onnx"
    with contextlib.suppress(OSError):
        shutil.copyfile(job.onnx_path, model)
    again = msgspec.structs.replace(job, onnx_path=str(model), out=str(folder / "out"))
    (folder / "job.json").write_bytes(msgspec.json.encode(again))
    shell = f"{' '.join(command)} {folder / 'job.json'} {folder / 'work'} 1"
    return StageError(
        f"compiling the model in {place}",
        found=found,
        hint=f"{folder} reproduces it: `{shell}`",
    )
