from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DeviceError, InputError
from edgekit.devices.job import (
    RESULT_BYTES_LIMIT,
    Job,
    JobResult,
    TensorFile,
    check_job,
    is_plain_path,
    parse_result,
)

X = TensorFile(name="x", file="x.bin", dtype="int8", shape=(2, 3))
JOB = Job(engine="tvm", model="model.so", inputs=(X,), num_items=2, num_runs=2, mode="latency")
RESULT: dict[str, Any] = {
    "schema": 1,
    "status": "ok",
    "outputs": [{"name": "y", "file": "outputs/0.bin", "dtype": "float32", "shape": [2, 1]}],
    "times_us": [1.0, 2.0],
}

Parse = Callable[[bytes], JobResult]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.so").touch()
    (tmp_path / "x.bin").write_bytes(bytes(6))
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "0.bin").write_bytes(bytes(8))
    return tmp_path


def parse(folder: Path, answer: object) -> JobResult:
    path = folder / "result.json"
    path.write_bytes(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    return parse_result(path, JOB, folder)


def test_a_job_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(JOB), type=Job) == JOB
    assert json.loads(msgspec.json.encode(JOB)).keys() >= {"schema", "mode", "num_threads"}


def test_a_good_job_passes(folder: Path) -> None:
    check_job(JOB, folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "../model.so"}, "one below its folder"),
        ({"outputs": "/tmp"}, "one below its folder"),
        ({"model": "absent.so"}, "Push its folder first"),
        ({"num_runs": 0}, "expected at least 1"),
        ({"num_items": 3}, "found 2 items, expected 3"),
        ({"inputs": (msgspec.structs.replace(X, dtype="complex64"),)}, "found dtype complex64"),
        ({"inputs": (msgspec.structs.replace(X, file="absent"),)}, "found no file 'absent'"),
        ({"inputs": (msgspec.structs.replace(X, shape=(2, 4)),)}, "a regular file of 8 bytes"),
    ],
)
def test_a_wrong_job_is_refused_before_it_starts(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        check_job(msgspec.structs.replace(JOB, **changes), folder)


def test_a_good_result_passes(folder: Path) -> None:
    assert parse(folder, RESULT).times_us == (1.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "makes no sense"),
        ({"status": "fine"}, "makes no sense"),
        ({"status": "error", "error": "too hot"}, "device program: too hot"),
        ({"status": "error"}, "error without a reason"),
        ({"times_us": [1.0]}, "found 1 times, expected 2"),
        ({"times_us": [1.0, -2.0]}, "makes no sense"),
        ({"outputs": []}, "no outputs"),
        ({"peak_rss_kib": -1}, "makes no sense"),
        ({"threads": 0}, "makes no sense"),
    ],
)
def test_a_result_that_makes_no_sense_is_a_device_error(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(DeviceError, match=said):
        parse(folder, {**RESULT, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": "outputs/../../secret"}, "one below 'outputs/'"),
        ({"file": "/etc/passwd"}, "one below 'outputs/'"),
        ({"file": "x.bin"}, "one below 'outputs/'"),
        ({"file": "outputs/1.bin"}, "no file"),
        ({"file": "outputs/link"}, "regular file"),
        ({"dtype": "object"}, "found dtype object"),
        ({"shape": [3, 1]}, "3 items, expected 2"),
        ({"shape": [2, 2]}, "found 8 bytes"),
        ({"shape": [2, 0]}, "makes no sense"),
        ({"shape": []}, "makes no sense"),
        ({"extra": 1}, "makes no sense"),
    ],
)
def test_an_output_that_does_not_fit_is_a_device_error(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    (folder / "outputs" / "link").symlink_to(folder / "outputs" / "0.bin")
    with pytest.raises(DeviceError, match=said):
        parse(folder, {**RESULT, "outputs": [{**RESULT["outputs"][0], **changes}]})


def test_a_missing_result_is_a_device_error(folder: Path) -> None:
    with pytest.raises(DeviceError, match="without a result"):
        parse_result(folder / "absent.json", JOB, folder)


def test_a_huge_result_is_not_read(folder: Path) -> None:
    path = folder / "result.json"
    with path.open("wb") as file:
        file.truncate(RESULT_BYTES_LIMIT + 1)
    with pytest.raises(DeviceError, match="over 64 MiB"):
        parse_result(path, JOB, folder)


@given(content=st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_no_bytes_raise_anything_but_a_device_error(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(DeviceError):
        parse(tmp_path_factory.getbasetemp(), content)


@given(path=st.text(alphabet="a./\\\n\0", max_size=8))
def test_a_plain_path_never_leaves_its_folder(path: str) -> None:
    if is_plain_path(path):
        folder = Path("/somewhere/deep")
        inside = Path(*(folder / path).parts)
        assert ".." not in inside.parts
        assert inside.is_relative_to(folder)
        assert inside != folder
