from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgekit.compress.quant.audit import audit
from edgekit.compress.quant.calibration import Calibration, batches_of
from edgekit.compress.quant.neural_compressor import Found, search
from edgekit.compress.quant.observers.min_max import MinMax
from edgekit.core.model import TensorSpec
from tests.compress.graphs import run
from tests.compress.networks import conv_norm, settled

INPUTS = (TensorSpec("image", "float32", (None, 1, 8, 8)),)
OUTPUTS = (TensorSpec("scores", "float32", (None, 5)),)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = conv_norm(1, 6), conv_norm(6, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        scores: torch.Tensor = self.head((x + self.body(x)).mean((2, 3)))
        return scores


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((48, 1, 8, 8)).astype(np.float32)


def find(x: np.ndarray, folder: Path, drops: list[float], max_drop: float, **more: object) -> Found:
    """Search with drops that are given instead of measured."""
    waiting = iter(drops)

    def drop_of(graph: onnx.ModelProto) -> float:
        assert audit(graph).violations == ()
        return next(waiting)

    batches = batches_of({"image": x}, np.arange(len(x)), fixed_batch=None)
    return search(
        settled(Residual()),
        INPUTS,
        OUTPUTS,
        Calibration(batches=batches, observer=MinMax()),
        drop_of=drop_of,
        max_drop=max_drop,
        opset=18,
        scratch=folder,
        **more,
    )


@pytest.mark.slow
def test_the_first_setting_within_the_goal_ends_the_search(x: np.ndarray, tmp_path: Path) -> None:
    found = find(x, tmp_path, [0.05, 0.004], 0.01)
    assert [trial.drop for trial in found.trials] == [0.05, 0.004]
    assert found.chosen == found.trials[1]
    assert (found.chosen.activations, found.chosen.weights) == ("kl", "per_channel")


@pytest.mark.slow
def test_without_one_within_the_goal_the_best_is_taken(x: np.ndarray, tmp_path: Path) -> None:
    found = find(x, tmp_path, [0.05, 0.04, 0.02, 0.03], 0.01)
    assert len(found.trials) == 4
    assert found.chosen.drop == 0.02
    assert found.chosen.weights == "per_tensor"


@pytest.mark.slow
def test_what_ships_is_integer_throughout_and_close_to_the_model(
    x: np.ndarray, tmp_path: Path
) -> None:
    quantized = find(x, tmp_path, [0.0], 0.01).quantized.model
    found = audit(quantized)
    assert found.integer_ops == {"Add": 1, "Conv": 2, "Gemm": 1, "GlobalAveragePool": 1}
    assert found.float_ops == {}
    with torch.no_grad():
        expected = settled(Residual())(torch.from_numpy(x)).numpy()
    noise = np.square(run(quantized, {"image": x}) - expected).sum()
    # 8 bits through 5 layers: 20 to 30 dB.
    assert 10 * np.log10(np.square(expected).sum() / noise) > 18


@pytest.mark.slow
def test_layers_are_ignored_by_their_module_names(x: np.ndarray, tmp_path: Path) -> None:
    found = find(x, tmp_path, [0.0], 0.01, ignored=("head",))
    assert audit(found.quantized.model).float_ops == {"head": "Gemm"}
