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

import onnx
import pytest

from edgekit.compiler.aot.build_library import CompileJob
from edgekit.compiler.supervise import CHILD, compile_in_child
from edgekit.core.errors import InputError, StageError
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
    script = """
        import os, signal, sys
        from edgekit.compiler import child
        from edgekit.compiler.aot import build_library
        real = build_library.fuse
        def fatal(module, target):
            import tvm
            @tvm.transform.module_pass(opt_level=0, name="Fatal")
            def fail(module, context): os.kill(os.getpid(), signal.SIGSEGV)
            fail(module)
        build_library.fuse = fatal
        sys.exit(child.main(sys.argv[1:]))
    """
    command = (sys.executable, "-c", textwrap.dedent(script))
    pattern = r"phase 'fuse', pass 'Fatal': found a crash \(SIGSEGV\)"
    with pytest.raises(StageError, match=pattern):
        compile_in_child(job, timeout_s=120, progress=NullProgress(), command=command)


def test_reproducer_command_runs_the_job_again(job: CompileJob) -> None:
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
