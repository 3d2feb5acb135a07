"""Small models as files, and a context to run stages and measurements in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.stage import StageContext

Array = NDArray[Any]
MakeContext = Callable[..., StageContext]


@pytest.fixture(scope="session")
def linear_graph() -> Callable[..., onnx.ModelProto]:
    """Write `scores = relu(x @ weight) @ eye`: two layers, `first` and `second`."""
    return _linear_graph


def _linear_graph(weight: Array, *, batch: int | str = "batch") -> onnx.ModelProto:
    size, classes = weight.shape
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["inner"], name="first"),
        helper.make_node("Relu", ["inner"], ["positive"], name="relu"),
        helper.make_node("MatMul", ["positive", "eye"], ["scores"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "w"),
            numpy_helper.from_array(np.eye(classes, dtype=np.float32), "eye"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def onnx_model(tmp_path: Path) -> Callable[..., ModelHandle]:
    """Save a linear model of 6 inputs and 4 classes; its batch is open or fixed."""

    def save(weight: Array | None = None, *, batch: int | None = None) -> ModelHandle:
        chosen = np.random.default_rng(0).standard_normal((6, 4)) if weight is None else weight
        folder = tmp_path / f"onnx-{batch}"
        folder.mkdir(exist_ok=True)
        onnx.save(_linear_graph(chosen, batch=batch or "batch"), folder / "model.onnx")
        return ModelHandle(
            ModelKind.ONNX,
            folder,
            (TensorSpec("x", "float32", (batch, chosen.shape[0])),),
            (TensorSpec("scores", "float32", (batch, chosen.shape[1])),),
        )

    return save


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """Build a context whose folders are below `tmp_path`."""

    def make(**options: object) -> StageContext:
        for name in ("work", "scratch", "cache"):
            (tmp_path / name).mkdir(exist_ok=True)
        return StageContext(
            workdir=tmp_path / "work",
            scratch=tmp_path / "scratch",
            cache_dir=tmp_path / "cache",
            **options,
        )

    return make
