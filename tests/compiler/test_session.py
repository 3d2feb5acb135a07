from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.session import open_session, run_session
from edgekit.core.errors import InputError
from tests.compiler import onnx_models


def test_batches_are_put_together_again() -> None:
    session = open_session(onnx_models.mlp())
    x = np.random.default_rng(0).standard_normal((10, 20)).astype(np.float32)
    (whole,) = run_session(session, {"x": x}, batch_size=10).values()
    (parts,) = run_session(session, {"x": x}, batch_size=3).values()
    assert whole.shape == (10, 3)
    # Another batch size may pick another kernel, hence another order of summation.
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_fixed_batch_runs_item_by_item() -> None:
    session = open_session(specialise(onnx_models.mlp()))
    (result,) = run_session(session, {"x": np.zeros((4, 20), np.float32)}).values()
    assert result.shape == (4, 3)


def test_only_wanted_outputs_come_back() -> None:
    model = onnx_models.two_in_two_out()
    name = model.graph.output[1].name
    ones = np.ones((2, 6), np.float32)
    results = run_session(open_session(model), {"left": ones, "right": ones}, outputs=[name])
    assert list(results) == [name]
    np.testing.assert_array_equal(results[name], ones)


def test_missing_input_is_named() -> None:
    session = open_session(onnx_models.two_in_two_out())
    with pytest.raises(InputError, match="found no input right"):
        run_session(session, {"left": np.ones((1, 6), np.float32)})


def test_wrong_type_is_refused() -> None:
    with pytest.raises(InputError, match="running the model"):
        run_session(open_session(onnx_models.mlp()), {"x": np.zeros((1, 20), np.int64)})


def test_refused_model_says_why() -> None:
    model = onnx_models.mlp()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InputError, match=r"opening the model with onnxruntime.*NoSuchOperator"):
        open_session(model)


def test_optimized_graph_can_be_looked_at(tmp_path: Path) -> None:
    open_session(onnx_models.residual_cnn(), save_optimized=tmp_path / "seen.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "seen.onnx").graph.node}
    assert "Relu" not in kinds  # fused into its convolution
