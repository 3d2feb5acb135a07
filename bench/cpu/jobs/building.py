"""`python -m bench.cpu.jobs.building JOB`: compile a net with edgekit and say what it took."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec

from bench.cpu.jobs.child import reply
from bench.cpu.jobs.memory import status_kib

_MIB = 1 << 20


class BuildJob(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to compile.

    Args:
        onnx: The net's file.
        out: Folder for the library; replaced.
        target: Name of the target.
        winograd: `auto`, or `off` for direct convolutions only.
        static_library: Whether to keep the archive as well.
    """

    onnx: str
    out: str
    target: str
    winograd: Literal["auto", "off"] = "auto"
    static_library: bool = False


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a compilation took and gave.

    Args:
        library: File name of the library.
        compile_s: Seconds of the engine's build.
        compile_cpu_s: Processor seconds it took, all processes together: what a machine with
            nothing else to do needs.
        compile_peak_mib: Peak resident memory of the largest process.
        library_bytes: Size of the shared library.
        weights_bytes: Constants inside it.
        onnx_bytes: Size of the net's file.
        workspace_bytes: Memory a run needs.
        integer_ops: Operators that compute in integers.
        float_ops: Operators that compute in floats.
        winograd_kernels: Steps that are Winograd convolutions.
    """

    library: str
    compile_s: float
    compile_cpu_s: float
    compile_peak_mib: float
    library_bytes: int
    weights_bytes: int
    onnx_bytes: int
    workspace_bytes: int
    integer_ops: int
    float_ops: int
    winograd_kernels: int


def main(arguments: list[str]) -> None:
    """Compile the net of a job given as JSON."""
    from edgekit.compiler.engines.tvm import Tvm
    from edgekit.core.progress import NullProgress
    from edgekit.core.target import load_target

    job = msgspec.json.decode(arguments[0].encode(), type=BuildJob)
    onnx, out = Path(job.onnx), Path(job.out)
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    build = Tvm(static_library=job.static_library, winograd=job.winograd).build(
        onnx, out, load_target(job.target), progress=NullProgress()
    )
    seconds = time.monotonic() - start
    library = out / build.library
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    # Not our own ru_maxrss: it begins with what the process that started this one had.
    peak_kib = max(status_kib("VmHWM"), others.ru_maxrss)
    reply(
        Built(
            library=library.name,
            compile_s=round(seconds, 2),
            compile_cpu_s=round(_seconds(own) + _seconds(others), 2),
            compile_peak_mib=round(peak_kib * 1024 / _MIB, 1),
            library_bytes=library.stat().st_size,
            weights_bytes=build.weights_bytes,
            onnx_bytes=onnx.stat().st_size,
            workspace_bytes=build.workspace_bytes,
            integer_ops=build.integer_ops or 0,
            float_ops=build.float_ops or 0,
            winograd_kernels=sum(step.kind.startswith("winograd") for step in build.steps),
        )
    )


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
