"""What `edgekit device doctor` looks at: each check runs the real thing and says what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import EdgekitError
from edgekit.core.target import cpu_model
from edgekit.devices import cpu
from edgekit.devices.native_build import build_program, host_triple, zig_version
from edgekit.devices.process import run_program
from edgekit.devices.session import Check, Command

if TYPE_CHECKING:
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target


def examine_local(target: Target, cache_dir: Path, progress: Progress) -> list[Check]:
    """Check this computer for running what is built for `target`."""
    return run_checks(
        {
            "processor": lambda: _processor(target),
            "zig": lambda: f"ziglang {zig_version()}",
            "device executable": functools.partial(_own_executable, cache_dir),
            "onnxruntime": _onnxruntime,
            "clock policy": _clock_policy,
        },
        progress,
    )


def run_checks(checks: dict[str, Callable[[], str]], progress: Progress) -> list[Check]:
    """Run checks by name; each returns what it found or raises an `EdgekitError`."""
    done = []
    with progress.start("Examining the device", len(checks), "checks") as task:
        for name, check in checks.items():
            try:
                done.append(Check(name=name, ok=True, found=check()))
            except EdgekitError as error:
                found = error.doing if error.found is None else f"{error.doing}: {error.found}"
                done.append(Check(name=name, ok=False, found=found, remedy=error.hint))
            task.advance()
    return done


def answer_of(program: str, command: Command, folder: Path) -> str:
    """Return the first line a program prints.

    Raises:
        EdgekitError: It fails.
    """
    ended = run_program(
        command.arguments, environment=command.environment, folder=folder, timeout_s=300
    )
    if ended.returncode != 0:
        raise EdgekitError(
            f"starting {program}", found=f"exit status {ended.returncode}: {ended.messages[-400:]}"
        )
    return ended.messages.partition("\n")[0]


def _processor(target: Target) -> str:
    cpu.refuse_foreign_code(target)
    return f"{cpu_model()}, {cpu.memory_mib()} MiB, runs code for '{target.name}'"


def _own_executable(cache_dir: Path) -> str:
    program = build_program("device", host_triple(), cache_dir)
    return answer_of("the device executable", Command([str(program), "--version"], {}), cache_dir)


def _onnxruntime() -> str:
    from edgekit.core.errors import require_module

    return f"onnxruntime {require_module('onnxruntime', 'onnx').__version__}"


def _clock_policy() -> str:
    governor = cpu.governor()
    if governor is None:
        return "not shown by this system"
    if governor != "performance":
        raise EdgekitError(
            "the clock may change while a model is timed",
            found=f"governor '{governor}'",
            hint="cpupower frequency-set --governor performance",
        )
    return "governor 'performance'"
