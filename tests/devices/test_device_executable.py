from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.devices.native_build import SOURCES, build_program, host_triple
from tests.devices.arrays import items

Execute = Callable[[bytes], dict[str, Any]]

JOB: dict[str, Any] = {
    "schema": 1,
    "engine": "tvm",
    "model": "libmodel.so",
    "inputs": [
        {"name": name, "file": f"{name}.bin", "dtype": "float32", "shape": [2, 4]} for name in "xb"
    ],
    "outputs": "out",
    "num_items": 2,
    "warmup_runs": 0,
    "num_runs": 1,
    "num_threads": 1,
    "mode": "latency",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device executable with traps for undefined behaviour: a fault ends it by a signal."""
    out = tmp_path_factory.mktemp("checked") / "device"
    sources = [str(path) for path in SOURCES.glob("*.c") if path.name != "insn_count.c"]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", host_triple(), "-O1", "-Werror"]
    command += ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-o", str(out), *sources]
    command += ["-fsanitize=undefined", "-fsanitize-trap=undefined", "-ldl", "-lm"]
    subprocess.run(command, check=True)
    return out


@pytest.fixture(scope="module")
def execute(program: Path, host_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Execute:
    """Run the program on the bytes of a job and return its result."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "libmodel.so").write_bytes((host_library / "libmodel.so").read_bytes())
    for name, array in items(1, 2).items():
        array.tofile(folder / f"{name}.bin")
    (folder / "link.bin").symlink_to(folder / "x.bin")
    (folder / "linked").symlink_to(folder)
    (folder / "short.bin").write_bytes(b"123")

    def run(job: bytes) -> dict[str, Any]:
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        (folder / "job.json").write_bytes(job)
        done = subprocess.run(
            [program, folder / "job.json", result], timeout=20, capture_output=True, check=False
        )
        answer = json.loads(result.read_bytes())
        assert isinstance(answer, dict)
        assert done.returncode == (0 if answer["status"] == "ok" else 1), done.stderr
        return answer

    return run


def encode(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return json.dumps({**JOB, **changes}).encode()


def test_a_good_job_is_done(execute: Execute) -> None:
    answer = execute(encode())
    assert answer["status"] == "ok"
    assert answer["outputs"] == [
        {"name": "y", "file": "out/0.bin", "dtype": "float32", "shape": [2, 4]}
    ]


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (b"", "unfinished document"),
        (b"[1, 2", "end of the list"),
        (b"{} {}", "behind the end"),
        (b"\xff", "not a JSON value"),
        (b'"\x00"', "NUL"),
        (b'"\\u0000"', "NUL"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\x"', "invalid escape"),
        (b"01", "leading zero"),
        (b"-", "invalid number"),
        (b"1.", "invalid number"),
        (b"[" * 100000, "nested too deeply"),
        (b"[" + b"1," * 100000 + b"1]", "too many values"),
        (b" " * (2 << 20), "too large"),
        (b"[]", "not an object"),
        (encode(schema=2), "schema"),
        (encode(schema="1"), "wrong type"),
        (encode(engine="onnxruntime"), "'tvm' libraries only"),
        (encode(mode="fast"), "outputs, latency or steps"),
        (encode(extra=1), "unknown field 'extra'"),
        (encode()[:-1] + b', "mode": "latency"}', "given twice"),
        (encode(num_items=0), "must lie in"),
        (encode(num_items=3), "2 items, num_items is 3"),
        (encode(num_items=1.5), "wrong type"),
        (encode(num_items=10**30), "wrong type"),
        (encode(num_runs=0), "must lie in 1"),
        (encode(num_threads=10**6), "must lie in"),
        (encode(inputs=[]), "0 inputs"),
        (encode(inputs=[1, 2]), "not an object"),
        (encode(inputs=JOB["inputs"] * 20), "40 inputs"),
        (encode(inputs=[JOB["inputs"][0]] * 2), "given twice"),
        (encode(inputs=[JOB["inputs"][0]]), "1 inputs, the model has 2"),
        (encode(model="absent.so"), "cannot open library"),
        (encode(model="x.bin"), "not an ELF file"),
        (encode(model="linked/libmodel.so"), "cannot open library"),
        (encode(outputs="linked"), "cannot create"),
        (encode(outputs="x.bin"), "cannot create"),
        (encode(outputs="a/b/c"), "cannot create"),
    ],
)
def test_a_wrong_job_is_refused_with_its_reason(execute: Execute, job: bytes, said: str) -> None:
    answer = execute(job)
    assert answer["status"] == "error"
    assert said in answer["error"]


@pytest.mark.parametrize("key", sorted(JOB))
def test_no_field_may_be_missing(execute: Execute, key: str) -> None:
    job = {name: value for name, value in JOB.items() if name != key}
    assert f"'{key}' is missing" in execute(json.dumps(job).encode())["error"]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "../job/x.bin", "a/../x.bin", "./x.bin", "", "a//b", "x.bin/", "a\nb"]
)
def test_no_path_leaves_the_folder(execute: Execute, path: str) -> None:
    changed = [{**JOB["inputs"][0], "file": path}, JOB["inputs"][1]]
    for change in ({"model": path}, {"outputs": path}, {"inputs": changed}):
        assert "below the job's folder" in execute(encode(**change))["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "absent.bin"}, "cannot open input"),
        ({"file": "link.bin"}, "cannot open input"),
        ({"file": "linked/x.bin"}, "cannot open input"),
        ({"file": "out"}, "not a regular file"),
        ({"file": "short.bin"}, "has 3 bytes"),
        ({"name": "z"}, "input 'x' is missing"),
        ({"dtype": "int8"}, "is int8, the model takes float32"),
        ({"shape": [2, 5]}, "model's shape"),
        ({"shape": [2]}, "model's shape"),
        ({"shape": [2, -4]}, "positive integers"),
        ({"shape": [1] * 9}, "9 dimensions"),
        ({"shape": 4}, "wrong type"),
    ],
)
def test_a_wrong_input_is_refused_with_its_reason(
    execute: Execute, change: dict[str, Any], said: str
) -> None:
    execute(encode())  # makes the folder `out`
    answer = execute(encode(inputs=[{**JOB["inputs"][0], **change}, JOB["inputs"][1]]))
    assert answer["status"] == "error"
    assert said in answer["error"]


def test_odd_names_come_back_as_valid_json(execute: Execute) -> None:
    odd = '"\\\x7f\x01é\U0001f600'
    answer = execute(encode(inputs=[{**JOB["inputs"][0], "name": odd}, JOB["inputs"][1]]))
    assert "input 'x' is missing" in answer["error"]
    assert execute(encode(mode=odd))["error"].startswith(f"job: mode is '{odd}'")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=150)
@given(key=st.sampled_from(sorted(JOB)), value=json_values)
def test_no_value_of_a_field_crashes_it(execute: Execute, key: str, value: object) -> None:
    execute(encode(**{key: value}))


@settings(max_examples=150)
@given(key=st.sampled_from(sorted(JOB["inputs"][0])), value=json_values)
def test_no_value_of_an_input_crashes_it(execute: Execute, key: str, value: object) -> None:
    execute(encode(inputs=[{**JOB["inputs"][0], key: value}, JOB["inputs"][1]]))


@settings(max_examples=250)
@given(
    start=st.integers(0, 400),
    length=st.integers(0, 12),
    patch=st.binary(max_size=12) | st.sampled_from([b"\\u", b"\\ud83d", b"[[", b'"', b"-9e", b"{"]),
)
def test_no_change_of_bytes_crashes_it(
    execute: Execute, start: int, length: int, patch: bytes
) -> None:
    job = encode()
    execute(job[:start] + patch + job[start + length :])


def test_a_missing_job_is_an_error_document(program: Path, tmp_path: Path) -> None:
    done = subprocess.run([program, tmp_path / "no.json", tmp_path / "result.json"], check=False)
    assert done.returncode == 1
    assert "No such file" in json.loads((tmp_path / "result.json").read_bytes())["error"]


def test_a_result_that_cannot_be_written_is_status_2(program: Path, tmp_path: Path) -> None:
    command = [program, tmp_path / "no.json", tmp_path / "absent" / "result.json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot write" in done.stderr


def test_wrong_arguments_show_the_usage(program: Path) -> None:
    done = subprocess.run([program], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: device" in done.stderr


@pytest.mark.parametrize("triple", ["aarch64-linux-gnu", "arm-linux-gnueabihf"])
def test_it_builds_for_every_arm_board(cache_dir: Path, triple: str) -> None:
    content = build_program("device", triple, cache_dir).read_bytes()
    machine = int.from_bytes(content[18:20], "little")
    assert machine == {"aarch64-linux-gnu": 183, "arm-linux-gnueabihf": 40}[triple]
    assert len(content) < 100_000  # it travels to boards, with every model
