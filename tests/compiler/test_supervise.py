from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import msgspec
import onnx
import pytest

from edgekit.compiler.build_library import CompileJob, Watch, build_library, read_model
from edgekit.compiler.supervise import CHILD, compile_in_child
from edgekit.core.errors import DeviceError, InputError, StageError
from edgekit.core.progress import NullProgress
from edgekit.core.target import Cpu, Os, Target
from tests.compiler import onnx_models

TARGET = Target(name="t", cpu=Cpu(isa="x86_64", core="x86-64-v2"), os=Os(triple="x86_64-linux-gnu"))
# Stand-ins for a compiler that goes wrong: real processes, speaking the child's protocol.
ANNOUNCE = """
    import os, signal, sys, time
    job, folder, pipe = sys.argv[1], sys.argv[2], int(sys.argv[3])
    def say(line): os.write(pipe, line.encode() + b"\\n")
    say('{"phase": "fuse"}'); say('{"native_pass": "FuseOps"}')
"""


@pytest.fixture
def job(tmp_path: Path) -> CompileJob:
    onnx.save(onnx_models.mlp(), tmp_path / "mlp.onnx")
    (tmp_path / "out").mkdir()
    return CompileJob(
        onnx_path=str(tmp_path / "mlp.onnx"), out=str(tmp_path / "out"), target=TARGET
    )


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def run(job: CompileJob, script: str, *, timeout_s: float = 30) -> None:
    command = (sys.executable, "-c", textwrap.dedent(ANNOUNCE) + textwrap.dedent(script))
    compile_in_child(job, timeout_s=timeout_s, progress=NullProgress(), command=command)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_crash_names_the_pass_and_leaves_a_reproducer(job: CompileJob, name: str) -> None:
    with pytest.raises(StageError, match=rf"pass 'FuseOps': found a crash \({name}\)") as caught:
        run(job, f"os.kill(os.getpid(), signal.{name})")
    hint = caught.value.hint
    assert hint is not None
    folder = Path(hint.split(" ")[0])
    assert {path.name for path in folder.iterdir()} == {
        "job.json",
        "log.txt",
        "model.onnx",
        "out",
        "work",
    }
    assert (folder / "model.onnx").read_bytes() == Path(job.onnx_path).read_bytes()


def test_crash_names_the_operator_when_known(job: CompileJob) -> None:
    script = """
        say('{"phase": "import"}')
        say('{"detail": "operator \\'gemm_0\\' (Gemm)"}')
        os.kill(os.getpid(), signal.SIGSEGV)
    """
    with pytest.raises(StageError, match=r"phase 'import', operator 'gemm_0' \(Gemm\): found a c"):
        run(job, script)


def test_python_error_shows_its_last_line(job: CompileJob) -> None:
    with pytest.raises(StageError, match="found RuntimeError: broken"):
        run(job, "raise RuntimeError('broken')")


def test_time_out_ends_everything_the_child_started(job: CompileJob, tmp_path: Path) -> None:
    script = f"""
        import subprocess
        sleeper = subprocess.Popen(["sleep", "600"])
        open({str(tmp_path / "pid")!r}, "w").write(str(sleeper.pid))
        say('{{"native_pass": "Slow"}}')
        time.sleep(600)
    """
    with pytest.raises(StageError, match="pass 'Slow': found no result after 2 s"):
        run(job, script, timeout_s=2)
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_interrupt_ends_the_child_at_once(job: CompileJob, tmp_path: Path) -> None:
    script = f"""
        open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
        time.sleep(600)
    """

    def interrupt() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.05)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(job, script)
    assert _is_gone(int((tmp_path / "pid").read_text()))
    # An interrupt is no bug: nothing is left to report.
    assert not list((tmp_path / "temporary").iterdir())


def test_failure_of_the_child_arrives_part_by_part(job: CompileJob, tmp_path: Path) -> None:
    script = """
        say('{"failure": {"kind": "InputError", "doing": "d", "found": "f", "hint": "h"}}')
    """
    with pytest.raises(InputError, match=r"d: found f\. Hint: h"):
        run(job, script)
    assert not list((tmp_path / "temporary").iterdir())


def test_missing_linker_gives_the_command_that_installs_it(
    job: CompileJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(InputError, match=re.escape("pip install 'edgekit[tvm]'")):
        compile_in_child(job, timeout_s=30, progress=NullProgress())


def test_real_compiler_names_the_operator_it_cannot_import(job: CompileJob) -> None:
    b = onnx_models.GraphBuilder()
    x = b.op("Det", b.op("Relu", "x"))
    onnx.save(b.model({"x": [1, 2, 2]}, {x: [1]}), job.onnx_path)
    with pytest.raises(InputError, match=r"operator 'node_det_1' \(Det\) into TVM"):
        compile_in_child(job, timeout_s=120, progress=NullProgress())


def test_real_compiler_that_dies_in_a_pass_names_it(job: CompileJob) -> None:
    # The real child, with a fatal signal inside TVM's pass manager.
    pattern = r"phase 'lower', pass 'Trouble', kernel 'dense_.*': found a crash \(SIGSEGV\)"
    with pytest.raises(StageError, match=pattern):
        run_real(job, "os.kill(os.getpid(), signal.SIGSEGV)")


def test_real_compiler_without_memory_says_how_to_give_it_more(job: CompileJob) -> None:
    with pytest.raises(StageError, match=r"more than 8192 MiB.*Raise memory_limit_mib"):
        run_real(job, "bytearray(1 << 40)")


def test_full_disk_is_no_fault_of_the_model(job: CompileJob) -> None:
    with pytest.raises(DeviceError, match="no space left on the disk"):
        run_real(job, when_writing="raise OSError(28, 'No space left on device')")


def run_real(job: CompileJob, in_a_pass: str = "pass", when_writing: str = "pass") -> None:
    script = f"""
        import os, signal, sys
        from edgekit.compiler import build_library, child
        from edgekit.compiler.aot import lowering
        passes, write = lowering.passes_of_loops, build_library.write_sources
        def troubled_passes():
            import tvm
            @tvm.transform.module_pass(opt_level=0, name="Trouble")
            def trouble(module, context):
                {in_a_pass}
                return module
            return [trouble, *passes()]
        def troubled_write(model, folder):
            {when_writing}
            return write(model, folder)
        lowering.passes_of_loops, build_library.write_sources = troubled_passes, troubled_write
        sys.exit(child.main(sys.argv[1:]))
    """
    command = (sys.executable, "-c", textwrap.dedent(script))
    compile_in_child(job, timeout_s=120, progress=NullProgress(), command=command)


def test_reproducer_command_runs_the_job_again(job: CompileJob, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        run(job, "os.kill(os.getpid(), signal.SIGSEGV)")
    folder = Path((caught.value.hint or "").split(" ")[0])
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*CHILD, str(folder / "job.json"), str(folder / "work"), "1"],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert '"build":{"engine":"tvm"' in done.stdout.splitlines()[-1]
    # And the same bytes in another process, in another folder, from another order of hashing.
    first, second = tmp_path / "first", folder / "out"
    first.mkdir()
    (first / "work").mkdir()
    watch = Watch(phase=lambda _: None, detail=lambda _: None)
    here = msgspec.structs.replace(job, out=str(first))
    build = build_library(here, read_model(here, watch), first / "work", watch)
    for name in build.files:
        assert (second / name).read_bytes() == (first / name).read_bytes()


def _is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
