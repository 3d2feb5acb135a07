from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.progress import NullProgress
from edgekit.core.target import Target, load_target
from edgekit.devices.doctor import examine
from edgekit.devices.runners.emulated import Emulated
from edgekit.devices.session import Session, describe_device, open_session
from tests.devices.arrays import Run, items

TVM = "tvm/libmodel.so"
ORT = "onnx/model.onnx"
ARM = "aarch64-linux-gnu"

emulated = [
    pytest.mark.emulated,
    pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed"),
]


@pytest.fixture(scope="module")
def rpi4() -> Target:
    return load_target("rpi4")


@pytest.fixture(scope="module")
def session(
    rpi4: Target, cache_dir: Path, model_library: Callable[[str], Path], onnx_folder: Path
) -> Iterator[Session]:
    with open_session("emulated:rpi4", rpi4, cache_dir) as session:
        session.push(model_library(ARM), "tvm")
        session.push(onnx_folder, "onnx")
        yield session


class TestEmulation:
    pytestmark = emulated

    @pytest.mark.parametrize(("engine", "model"), [("tvm", TVM), ("onnxruntime", ORT)])
    def test_every_item_is_one_inference(
        self, session: Session, run: Run, engine: str, model: str
    ) -> None:
        inputs = items(1, 2, 3)
        ran = run(session, engine, model, inputs)
        np.testing.assert_array_equal(ran.outputs["y"], 2 * inputs["x"] + inputs["b"])

    @pytest.mark.parametrize(("engine", "model"), [("tvm", TVM), ("onnxruntime", ORT)])
    def test_instructions_are_the_only_figure_and_repeat(
        self, session: Session, run: Run, engine: str, model: str
    ) -> None:
        options = {"mode": "latency", "num_runs": 50, "warmup_runs": 10, "num_threads": 4}
        results = [run(session, engine, model, items(1), **options).result for _ in range(2)]
        for result in results:
            assert result.times_us == ()
            assert result.first_run_us is None
            assert result.load_us is None
            assert result.peak_rss_kib is None
            assert result.device.clock_mhz == (None, None)
            assert result.threads == 1
        first, second = (result.instructions_per_run for result in results)
        assert first is not None
        assert second is not None
        # A library repeats to the instruction; ONNX Runtime reads a clock and allocates.
        assert abs(first - second) <= (0 if engine == "tvm" else 0.02 * first)
        # About 60 instructions of arithmetic and 100 of marks, or ONNX Runtime's own overhead.
        assert 60 < first < (400 if engine == "tvm" else 200_000)

    def test_steps_are_counted_and_sum_up_to_a_run(self, session: Session, run: Run) -> None:
        result = run(session, "tvm", TVM, items(1), mode="steps", num_runs=3).result
        assert result.steps is not None
        assert [step.name for step in result.steps] == ["double", "shift"]
        assert all(step.us is None for step in result.steps)
        counts = [step.instructions for step in result.steps]
        assert sum(count or 0 for count in counts) == result.instructions_per_run

    def test_operators_of_onnxruntime_cannot_be_counted(self, session: Session, run: Run) -> None:
        with pytest.raises(DeviceError, match="single operators of engine 'onnxruntime'"):
            run(session, "onnxruntime", ORT, items(1), mode="steps", num_runs=1)

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (-1, "SIGSEGV.*build it again"),
            (-2, "SIGILL.*cortex-a72 lacks"),
            (-4, "run function returned 7"),
            (-5, "wrote behind"),
        ],
    )
    def test_a_faulty_library_is_a_device_error(
        self, session: Session, run: Run, fault: int, said: str
    ) -> None:
        with pytest.raises(DeviceError, match=said):
            run(session, "tvm", TVM, items(fault))

    def test_the_dot_product_of_a_pi_5_is_illegal_on_a_pi_4(
        self, session: Session, run: Run
    ) -> None:
        with pytest.raises(DeviceError, match=r"SIGILL.*cortex-a72 lacks"):
            run(session, "tvm", TVM, items(-6))

    @pytest.mark.slow
    def test_the_dot_product_runs_on_a_pi_5(
        self, run: Run, cache_dir: Path, model_library: Callable[[str], Path]
    ) -> None:
        with open_session("emulated:rpi5", load_target("rpi5"), cache_dir) as session:
            session.push(model_library(ARM), "tvm")
            run(session, "tvm", TVM, items(-6))

    def test_a_run_without_end_is_given_up(
        self, rpi4: Target, cache_dir: Path, run: Run, model_library: Callable[[str], Path]
    ) -> None:
        with Emulated(timeout_s=1.5).open("emulated:", rpi4, cache_dir) as session:
            session.push(model_library(ARM), "tvm")
            with pytest.raises(DeviceError, match=r"no end after 1\.5 s"):
                run(session, "tvm", TVM, items(-3))

    def test_a_library_for_this_computer_is_refused(
        self, session: Session, run: Run, host_library: Path
    ) -> None:
        session.push(host_library, "foreign")
        with pytest.raises(DeviceError, match="built for another CPU"):
            run(session, "tvm", "foreign/libmodel.so", items(1))

    def test_a_description_equals_what_a_session_finds(
        self, session: Session, rpi4: Target, cache_dir: Path
    ) -> None:
        info = describe_device("emulated:rpi4", rpi4, cache_dir)
        assert info == session.probe()
        assert info.kind == "emulated"
        assert info.measures == {"instructions"}

    def test_the_doctor_finds_everything_in_order(self, rpi4: Target, cache_dir: Path) -> None:
        checks = examine("emulated:rpi4", rpi4, cache_dir, NullProgress())
        assert {check.name: check.found for check in checks if not check.ok} == {}
        names = [check.name for check in checks]
        assert names[0] == "qemu"
        assert names[-1] == "instruction counter"


def test_boards_differ_in_their_fingerprints(rpi4: Target, tmp_path: Path) -> None:
    one = describe_device("emulated:rpi4", rpi4, tmp_path)
    two = describe_device("emulated:rpi5", load_target("rpi5"), tmp_path)
    assert one.fingerprint != two.fingerprint
    assert list(tmp_path.iterdir()) == []


def test_a_core_without_a_board_is_refused(rpi4: Target, cache_dir: Path) -> None:
    strange = msgspec.structs.replace(rpi4, cpu=msgspec.structs.replace(rpi4.cpu, core="cortex-m4"))
    with pytest.raises(InputError, match="expected cortex-a72 or cortex-a76"):
        open_session("emulated:", strange, cache_dir)


def test_only_64_bit_arm_linux_is_emulated(cache_dir: Path) -> None:
    with pytest.raises(InputError, match="expected aarch64-linux-gnu"):
        open_session("emulated:", load_target("android-arm64"), cache_dir)


def test_code_for_a_newer_board_is_refused_before_it_runs(cache_dir: Path) -> None:
    with pytest.raises(DeviceError, match=r"without dotprod, fp16.*emulated:rpi5"):
        open_session("emulated:rpi4", load_target("rpi5"), cache_dir)


def test_code_for_another_system_is_refused_before_it_runs(host: Target, cache_dir: Path) -> None:
    with pytest.raises(InputError, match="expected aarch64-linux-gnu"):
        open_session("emulated:rpi4", host, cache_dir)
