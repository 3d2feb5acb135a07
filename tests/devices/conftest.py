"""A compiled model written by hand, which misbehaves when an input or a variable asks for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.places import cache_folder
from edgekit.core.target import Target, load_target
from edgekit.data.tensors import write_tensors
from edgekit.devices.job import Job, TensorFile
from edgekit.devices.native_build import INCLUDE, host_triple
from edgekit.devices.session import Session
from tests.devices.arrays import Arrays, Ran, Run

MODEL_SOURCE = Path(__file__).with_name("model.c")


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Device programs and roots are kept between test runs, as between builds."""
    return cache_folder()


@pytest.fixture(scope="session")
def host() -> Target:
    return load_target("host")


@pytest.fixture(scope="session")
def model_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder with `libmodel.so` for a triple."""
    built: dict[str, Path] = {}

    def build(triple: str) -> Path:
        if triple not in built:
            folder = tmp_path_factory.mktemp("model")
            command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-O1", "-shared"]
            command += ["-fPIC", f"-I{INCLUDE}", "-o", str(folder / "libmodel.so")]
            subprocess.run([*command, str(MODEL_SOURCE)], check=True)
            built[triple] = folder
        return built[triple]

    return build


@pytest.fixture(scope="session")
def host_library(model_library: Callable[[str], Path]) -> Path:
    return model_library(host_triple())


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `model.onnx`: the same arithmetic as the library."""
    from onnx import TensorProto, checker, helper, save

    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "x"], ["doubled"], name="double"),
            helper.make_node("Add", ["doubled", "b"], ["y"], name="shift"),
        ],
        "affine",
        [helper.make_tensor_value_info(name, kind, ["N", 4]) for name in ("x", "b")],
        [helper.make_tensor_value_info("y", kind, ["N", 4])],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    checker.check_model(model)
    folder = tmp_path_factory.mktemp("onnx")
    save(model, folder / "model.onnx")
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run arrays through a model on a session: `run(session, engine, model, inputs, mode=...)`."""

    def run_arrays(
        session: Session,
        engine: str,
        model: str,
        inputs: Arrays,
        **options: Any,  # noqa: ANN401 - whatever a Job takes
    ) -> Ran:
        folder = tmp_path_factory.mktemp("inputs")
        files = write_tensors(folder, inputs)
        place = session.push(folder, "inputs")
        tensors = tuple(
            TensorFile(
                name=file.name, file=f"{place}/{file.file}", dtype=file.dtype, shape=file.shape
            )
            for file in files
        )
        job = Job(
            engine=engine,  # type: ignore[arg-type]
            model=model,
            inputs=tensors,
            num_items=files[0].shape[0],
            **options,
        )
        result = session.run(job)
        outputs = {
            tensor.name: np.fromfile(session.folder / tensor.file, tensor.dtype).reshape(
                tensor.shape
            )
            for tensor in result.outputs
        }
        return Ran(outputs, result)

    return run_arrays
