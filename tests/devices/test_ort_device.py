from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.devices import ort_device
from tests.devices.arrays import items

Execute = Callable[[object], dict[str, Any]]

JOB: dict[str, Any] = {
    "schema": 1,
    "engine": "onnxruntime",
    "model": "model.onnx",
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
def execute(onnx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Execute:
    """Run the program within this process and return its result."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "model.onnx").write_bytes((onnx_folder / "model.onnx").read_bytes())
    for name, array in items(1, 2).items():
        array.tofile(folder / f"{name}.bin")
    (folder / "link.bin").symlink_to(folder / "x.bin")

    def run(job: object) -> dict[str, Any]:
        (folder / "job.json").write_text(job if isinstance(job, str) else json.dumps(job))
        status = ort_device.main([str(folder / "job.json"), str(folder / "result.json")])
        answer = json.loads((folder / "result.json").read_bytes())
        assert isinstance(answer, dict)
        assert status == (0 if answer["status"] == "ok" else 1)
        return answer

    return run


def test_a_good_job_is_done(execute: Execute) -> None:
    answer = execute(JOB)
    assert answer["status"] == "ok", answer
    assert answer["outputs"] == [
        {"name": "y", "file": "out/0.bin", "dtype": "float32", "shape": [2, 4]}
    ]
    assert len(answer["times_us"]) == 1
    assert answer["peak_rss_kib"] > 0


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("", "job: "),
        ("[" * 100000, "job: "),
        ("[]", "not an object"),
        ({**JOB, "extra": 1}, "unknown fields"),
        ({**JOB, "schema": 2}, "schema 1"),
        ({**JOB, "engine": "tvm"}, "'onnxruntime' only"),
        ({**JOB, "mode": "fast"}, "outputs, latency or steps"),
        ({**JOB, "num_runs": 0}, "'num_runs' must be"),
        ({**JOB, "num_items": True}, "'num_items' must be"),
        ({**JOB, "model": "../model.onnx"}, "below the job's folder"),
        ({**JOB, "model": "/etc/hostname"}, "below the job's folder"),
        ({**JOB, "model": "link.bin"}, "goes through a link"),
        ({**JOB, "model": "absent.onnx"}, "no model"),
        ({**JOB, "inputs": [1]}, "must be objects"),
        ({**JOB, "inputs": JOB["inputs"][:1]}, r"inputs are ['x']"),
        ({**JOB, "num_items": 1}, "num_items is 1"),
    ],
)
def test_a_wrong_job_is_refused_with_its_reason(execute: Execute, job: object, said: str) -> None:
    answer = execute(job)
    assert answer["status"] == "error"
    assert said in answer["error"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
# A large but valid count is no wrong value, it only takes its time.
counts = {"num_runs", "warmup_runs", "num_threads"}


@settings(max_examples=60)
@given(key=st.sampled_from(sorted(set(JOB) - counts)), value=json_values)
def test_no_value_of_a_field_escapes_the_error_document(
    execute: Execute, key: str, value: object
) -> None:
    execute({**JOB, key: value})


@settings(max_examples=60)
@given(key=st.sampled_from(sorted(JOB["inputs"][0])), value=json_values)
def test_no_value_of_an_input_escapes_the_error_document(
    execute: Execute, key: str, value: object
) -> None:
    execute({**JOB, "inputs": [{**JOB["inputs"][0], key: value}, JOB["inputs"][1]]})


def test_a_result_that_cannot_be_written_is_status_2(tmp_path: Path) -> None:
    missing = tmp_path / "absent" / "result.json"
    assert ort_device.main([str(tmp_path / "job.json"), str(missing)]) == 2
    assert ort_device.main([]) == 2
