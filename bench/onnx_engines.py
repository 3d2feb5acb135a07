"""Two ways to run a node test: edgekit's whole compiler, and TVM as it comes.

Runs inside a worker process: either may crash on what a test holds.
"""

from __future__ import annotations

import signal
import tempfile
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx
from onnx_cases import Case

Results = dict[str, np.ndarray]
MEMORY_MIB = 8192
HALF_ROUNDING = 2.0**-9  # two roundings to float16; ONNX's own 0.001 is less than one


def serve(engine: str, calls: Connection) -> None:
    """Run tests that come down a pipe until it closes; answer how each went.

    An answer is a verdict and its reason: `matched`, `differs`, `refused` (a clear error of the
    engine before it ran) or `failed`.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    import tvm  # noqa: F401 (it sets handlers of its own, which are undone next)

    # TVM's own handler walks the stack for a minute before the process ends.
    for crash in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE):
        signal.signal(crash, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    while True:
        try:
            case = calls.recv()
        except EOFError:
            return
        calls.send(_judge(ENGINES[engine], case))


def _judge(run: Callable[[Case, Callable[[str], None]], Results], case: Case) -> tuple[str, str]:
    from edgekit.core.errors import InputError

    phase = "import"

    def enter(name: str) -> None:
        nonlocal phase
        phase = name

    try:
        results = run(case, enter)
    except InputError as error:
        return "refused", f"{phase}: {error}"
    # An engine that is not ours raises what it likes, and none of it may end the benchmark.
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return "failed", f"{phase}: {type(error).__name__}: {lines[-1] if lines else ''}"
    return _compare(case, results)


def _compare(case: Case, results: Mapping[str, np.ndarray]) -> tuple[str, str]:
    for name, expected in case.outputs.items():
        found = results[name]
        if found.dtype != expected.dtype or found.shape != expected.shape:
            return "differs", (
                f"'{name}' is {found.dtype} {found.shape}, not {expected.dtype} {expected.shape}"
            )
        rtol = max(case.rtol, HALF_ROUNDING) if expected.dtype == np.float16 else case.rtol
        if not np.allclose(found, expected, rtol=rtol, atol=case.atol, equal_nan=True):
            return "differs", f"values of '{name}'"
    return "matched", ""


def _run_edgekit(case: Case, enter: Callable[[str], None]) -> Results:
    from edgekit.compiler.build_library import CompileJob, Watch, build_library, read_model
    from edgekit.core.target import load_target
    from edgekit.devices.library import CompiledLibrary

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "out").mkdir()
        (folder / "work").mkdir()
        (folder / "model.onnx").write_bytes(case.model)
        job = CompileJob(
            onnx_path=str(folder / "model.onnx"),
            out=str(folder / "out"),
            target=load_target("host"),
            static_library=False,
        )
        watch = Watch(phase=enter, detail=lambda _: None)
        built = build_library(job, read_model(job, watch), folder / "work", watch)
        enter("run")
        return CompiledLibrary(folder / "out" / built.library).run_one(case.inputs)


def _run_tvm(case: Case, enter: Callable[[str], None]) -> Results:
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    model = onnx.load_model_from_string(case.model)
    module = from_onnx(model, keep_params_in_input=False)
    enter("compile")
    machine = relax.VirtualMachine(relax.build(module, tvm.target.Target("llvm")), tvm.cpu())
    enter("run")
    results = machine["main"](*[tvm.runtime.tensor(value) for value in case.inputs.values()])
    is_one = len(case.outputs) == 1 and type(results).__name__ != "Array"
    arrays = [_array(item) for item in ([results] if is_one else results)]
    return dict(zip(case.outputs, arrays, strict=True))


def _array(value: object) -> np.ndarray:
    """Return a result of TVM; a shape comes as a tuple."""
    return value.numpy() if hasattr(value, "numpy") else np.asarray(list(value), np.int64)


ENGINES: dict[str, Callable[[Case, Callable[[str], None]], Results]] = {
    "edgekit": _run_edgekit,
    "tvm": _run_tvm,
}
