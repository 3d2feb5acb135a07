from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.target import Target, load_target
from edgekit.devices import cpu
from edgekit.devices.job import Job, TensorFile
from edgekit.devices.runners import local
from edgekit.devices.runners.local import Local
from edgekit.devices.session import Session, describe_device, open_session
from tests.devices.arrays import Run, items

TVM = "tvm/libmodel.so"
ORT = "onnx/model.onnx"


@pytest.fixture
def session(
    host: Target, cache_dir: Path, host_library: Path, onnx_folder: Path
) -> Iterator[Session]:
    with open_session("local:", host, cache_dir) as session:
        session.push(host_library, "tvm")
        session.push(onnx_folder, "onnx")
        yield session


@pytest.mark.parametrize(("engine", "model"), [("tvm", TVM), ("onnxruntime", ORT)])
def test_every_item_is_one_inference(session: Session, run: Run, engine: str, model: str) -> None:
    inputs = items(1, 2, 3)
    ran = run(session, engine, model, inputs)
    np.testing.assert_array_equal(ran.outputs["y"], 2 * inputs["x"] + inputs["b"])
    assert ran.result.times_us == ()
    assert ran.result.steps is None


@pytest.mark.parametrize(("engine", "model"), [("tvm", TVM), ("onnxruntime", ORT)])
def test_latency_brings_one_time_per_counted_run(
    session: Session, run: Run, engine: str, model: str
) -> None:
    result = run(
        session, engine, model, items(1, 2), mode="latency", warmup_runs=3, num_runs=7
    ).result
    assert len(result.times_us) == 7
    assert all(time > 0 for time in result.times_us)
    assert result.first_run_us is not None
    assert result.load_us is not None
    assert result.threads == 1
    assert result.instructions_per_run is None
    assert result.device.cores is not None


def test_memory_is_the_device_program_s_own(session: Session, run: Run) -> None:
    result = run(session, "tvm", TVM, items(1)).result
    assert result.peak_rss_kib is not None
    # This Python takes well over 20 MiB; a few pages of C must not be charged with it.
    assert 0 < result.peak_rss_kib < 20 * 1024


@pytest.mark.parametrize(
    ("engine", "model", "names"),
    [("tvm", TVM, ["double", "shift"]), ("onnxruntime", ORT, ["double", "shift"])],
)
def test_steps_are_timed_by_name(
    session: Session, run: Run, engine: str, model: str, names: list[str]
) -> None:
    steps = run(session, engine, model, items(1), mode="steps", num_runs=5).result.steps
    assert steps is not None
    assert [step.name for step in steps] == names
    assert all(step.us is not None for step in steps)


def test_threads_in_force_are_the_engine_s_answer(session: Session, run: Run) -> None:
    assert run(session, "tvm", TVM, items(1), num_threads=8).result.threads == 2


@pytest.mark.parametrize(
    ("fault", "said"),
    [(-1, "SIGSEGV"), (-2, "SIGILL.*--target host"), (-4, "run function returned 7")],
)
def test_a_faulty_library_is_a_device_error(
    session: Session, run: Run, fault: int, said: str
) -> None:
    with pytest.raises(DeviceError, match=said):
        run(session, "tvm", TVM, items(1, fault))


def test_writing_behind_an_output_is_found(session: Session, run: Run) -> None:
    with pytest.raises(DeviceError, match="wrote behind the end of an output"):
        run(session, "tvm", TVM, items(-5))


def test_a_run_without_end_is_given_up(
    host: Target, cache_dir: Path, host_library: Path, run: Run
) -> None:
    runner = Local(timeout_s=1)
    with runner.open("local:", host, cache_dir) as session:
        session.push(host_library, "tvm")
        with pytest.raises(DeviceError, match="no end after 1 s"):
            run(session, "tvm", TVM, items(-3))


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("nothing", "gave nothing"),
        ("abi", "ABI 99, this device executable has 1"),
        ("no-inputs", "0 inputs"),
        ("many-outputs", "1073741824 outputs"),
        ("no-run", "no run function"),
        ("workspace", "wants a workspace"),
        ("bytes", "says 3 bytes, its shape needs 16"),
        ("dtype", "unknown dtype"),
        ("name", "no name"),
        ("batch", "batch of 2"),
        ("endless", "impossible shape"),
        ("dims", "1000 dimensions"),
    ],
)
def test_a_library_that_describes_itself_falsely_is_refused(
    session: Session, run: Run, monkeypatch: pytest.MonkeyPatch, variant: str, said: str
) -> None:
    monkeypatch.setenv("EK_TEST_MODEL", variant)
    with pytest.raises(DeviceError, match=said):
        run(session, "tvm", TVM, items(1))


def test_a_library_without_steps_or_threads_still_runs(
    session: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EK_TEST_MODEL", "no-threads")
    assert run(session, "tvm", TVM, items(1), num_threads=4).result.threads == 1
    monkeypatch.setenv("EK_TEST_MODEL", "no-steps")
    run(session, "tvm", TVM, items(1))
    with pytest.raises(DeviceError, match="no steps to time"):
        run(session, "tvm", TVM, items(1), mode="steps", num_runs=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:1000], "cut off"),
        (lambda content: content[:40], "not an ELF file"),
        (lambda content: b"#!/bin/sh\n" + content, "not an ELF file"),
        (lambda content: content[:18] + b"\xf3\x00" + content[20:], "built for another CPU"),
    ],
)
def test_a_damaged_library_is_named_as_such(
    session: Session, run: Run, host_library: Path, tmp_path: Path, change: object, said: str
) -> None:
    assert callable(change)
    content = (host_library / "libmodel.so").read_bytes()
    (tmp_path / "libmodel.so").write_bytes(change(content))
    session.push(tmp_path, "damaged")
    with pytest.raises(DeviceError, match=said):
        run(session, "tvm", "damaged/libmodel.so", items(1))


def test_a_damaged_onnx_file_is_a_device_error(session: Session, run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07nonsense")
    session.push(tmp_path, "damaged")
    with pytest.raises(DeviceError, match="device program: "):
        run(session, "onnxruntime", "damaged/model.onnx", items(1))


@pytest.mark.parametrize(("engine", "model"), [("tvm", TVM), ("onnxruntime", ORT)])
@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"x": np.zeros((2, 4), "f4")}, "inputs"),
        ({"x": np.zeros((2, 4), "f4"), "c": np.zeros((2, 4), "f4")}, "b"),
        ({"x": np.zeros((2, 4), "f8"), "b": np.zeros((2, 4), "f4")}, "float64, the model takes"),
        ({"x": np.zeros((2, 5), "f4"), "b": np.zeros((2, 4), "f4")}, "model's shape"),
        ({"x": np.zeros((2, 4, 1), "f4"), "b": np.zeros((2, 4), "f4")}, "model's shape"),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_refused(
    session: Session, run: Run, engine: str, model: str, inputs: dict[str, object], said: str
) -> None:
    with pytest.raises(DeviceError, match=said):
        run(session, engine, model, inputs)


def test_the_work_folder_disappears_with_the_session(host: Target, cache_dir: Path) -> None:
    with open_session("local:", host, cache_dir) as session:
        folder = session.folder
        assert folder.is_dir()
    assert not folder.exists()


def test_pushing_needs_a_folder_and_a_plain_name(session: Session, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        session.push(tmp_path / "absent")
    with pytest.raises(InputError, match="a plain name"):
        session.push(tmp_path, "../escape")


def test_pushing_twice_replaces(session: Session, tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    session.push(tmp_path, "data")
    (tmp_path / "old").rename(tmp_path / "new")
    session.push(tmp_path, "data")
    assert [path.name for path in (session.folder / "data").iterdir()] == ["new"]


def test_a_job_whose_model_was_not_pushed_is_refused(session: Session) -> None:
    job = Job(engine="tvm", model="absent/libmodel.so", inputs=(), num_items=1)
    with pytest.raises(InputError, match="Push its folder first"):
        session.run(job)


def test_a_link_out_of_the_folder_is_not_followed(session: Session, tmp_path: Path) -> None:
    values = np.zeros((1, 4), np.float32)
    values.tofile(tmp_path / "secret.bin")
    (session.folder / "x.bin").symlink_to(tmp_path / "secret.bin")
    tensors = tuple(
        TensorFile(name=name, file="x.bin", dtype="float32", shape=(1, 4)) for name in ("x", "b")
    )
    with pytest.raises(InputError, match="expected a regular file"):
        session.run(Job(engine="tvm", model=TVM, inputs=tensors, num_items=1))


def test_the_uri_takes_nothing_behind_its_colon(host: Target, cache_dir: Path) -> None:
    with pytest.raises(InputError, match="expected local:"):
        open_session("local:somewhere", host, cache_dir)


def test_an_unknown_scheme_offers_the_nearest(host: Target, cache_dir: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'local'"):
        open_session("locale:", host, cache_dir)


def test_code_for_another_processor_is_refused_before_it_runs(
    host: Target, cache_dir: Path
) -> None:
    with pytest.raises(DeviceError, match="emulated:rpi4"):
        open_session("local:", load_target("rpi4"), cache_dir)
    exotic = msgspec.structs.replace(
        host, name="exotic", cpu=msgspec.structs.replace(host.cpu, features=("avx9999",))
    )
    with pytest.raises(DeviceError, match=r"without avx9999.*--target host"):
        open_session("local:", exotic, cache_dir)


def test_a_target_s_spelling_of_a_feature_may_differ_from_linux_s(
    host: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_flags", lambda: {"avx512_vnni", "sse4_1"})
    names = ("avx512vnni", "sse4.1", "amx")
    wanted = msgspec.structs.replace(host.cpu, features=names)
    assert cpu.missing_features(msgspec.structs.replace(host, cpu=wanted)) == ("amx",)


def test_a_missing_onnxruntime_comes_with_the_command_that_installs_it(
    session: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_installed_onnxruntime", lambda: None)
    with pytest.raises(InputError, match=r"pip install 'edgekit\[onnx\]'"):
        run(session, "onnxruntime", ORT, items(1))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('cannot start')", "exit status 1, saying: cannot start"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL.*lack of memory"),
        ("import os; os.kill(os.getpid(), 8)", "SIGFPE.*build it again"),
        ("import sys; open(sys.argv[2], 'w').write('{}')", "makes no sense"),
    ],
)
def test_a_device_program_that_misbehaves_is_a_device_error(
    session: Session,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    program: str,
    said: str,
) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(local, "ORT_DEVICE", tmp_path / "program.py")
    with pytest.raises(DeviceError, match=said):
        run(session, "onnxruntime", ORT, items(1))


def test_a_description_equals_what_a_session_finds(
    session: Session, host: Target, cache_dir: Path
) -> None:
    info = describe_device("local:", host, cache_dir)
    assert info == session.probe()
    assert info.kind == "local"
    assert info.measures == {"latency", "memory"}
    assert len(info.fingerprint) == 64


_HANGING_BUILD = """
import sys
from pathlib import Path
from edgekit.core.target import load_target
from edgekit.devices import cpu
from edgekit.devices.job import Job, TensorFile
from edgekit.devices.runners import local
from edgekit.devices.session import open_session
cache, library, inputs = map(Path, sys.argv[1:])
with open_session("local:", load_target("host"), cache) as session:
    session.push(library, "tvm")
    session.push(inputs, "in")
    tensors = tuple(
        TensorFile(name=n, file=f"in/{n}.bin", dtype="float32", shape=(1, 4)) for n in ("x", "b")
    )
    print(session.folder, flush=True)
    session.run(Job(engine="tvm", model="tvm/libmodel.so", inputs=tensors, num_items=1))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_device_program_survives_its_build(
    cache_dir: Path, host_library: Path, host: Target, tmp_path: Path, how: signal.Signals
) -> None:
    for name, array in items(-3).items():
        array.tofile(tmp_path / f"{name}.bin")
    arguments = [str(cache_dir), str(host_library), str(tmp_path)]
    build = subprocess.Popen(
        [sys.executable, "-c", _HANGING_BUILD, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert build.stdout is not None
    folder = Path(build.stdout.readline().strip())
    program = _wait_for_program(folder)
    build.send_signal(how)
    build.wait(timeout=20)
    build.stdout.close()
    _wait_until(lambda: not _is_running(program))
    if how == signal.SIGINT:
        assert not folder.exists()
    with open_session("local:", host, cache_dir):
        assert not folder.exists()  # what a killed build left behind is swept


def _wait_for_program(folder: Path) -> int:
    found: list[int] = []

    def look() -> bool:
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"/device\0" in command and str(folder).encode() in command:
                found.append(int(process.name))
        return bool(found)

    _wait_until(look)
    return found[0]


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
