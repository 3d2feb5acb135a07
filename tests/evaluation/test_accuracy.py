from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle
from edgekit.core.registry import registry
from edgekit.core.stage import StageContext
from edgekit.data.datasets.npz import Npz
from edgekit.data.metrics.python import Python
from edgekit.data.metrics.top_1 import Top1
from edgekit.data.source import Data
from edgekit.evaluation.accuracy import measure, score

MakeModel = Callable[..., ModelHandle]
MakeContext = Callable[..., StageContext]


def points(path: Path, classes: int = 4) -> Data:
    """Six coordinates, of which the largest of the first four is the class."""
    x = np.random.default_rng(3).standard_normal((80, 6)).astype(np.float32)
    np.savez(path, x=x, y=x[:, :classes].argmax(axis=1))
    return Data(dataset=Npz(path=str(path)))


def test_a_perfect_model_scores_one(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    model = onnx_model(np.eye(6, 4))
    ctx = make_context(data=points(tmp_path / "p.npz"), metric=Top1())
    (metric,) = measure(model, ctx)
    # All four coordinates may be negative, and ReLU makes them equal.
    assert metric.value > 0.9
    assert (metric.name, metric.unit, metric.better) == ("top-1", "", "higher")


def test_it_is_measured_on_the_test_split_alone(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    data = points(tmp_path / "p.npz")
    (metric,) = measure(onnx_model(), make_context(data=data, metric=Top1()))
    assert metric.value * len(data.test) == pytest.approx(round(metric.value * len(data.test)))
    assert len(data.test) == 16


def test_without_data_nothing_is_measured(onnx_model: MakeModel, make_context: MakeContext) -> None:
    assert measure(onnx_model(), make_context(metric=Top1())) == ()


def test_labels_beyond_the_outputs_are_refused(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    ctx = make_context(data=points(tmp_path / "p.npz", classes=6), metric=Top1())
    with pytest.raises(InputError, match="expected classes below 4"):
        measure(onnx_model(), ctx)


def test_data_of_another_shape_is_refused(
    onnx_model: MakeModel, make_context: MakeContext, tmp_path: Path
) -> None:
    ctx = make_context(data=points(tmp_path / "p.npz"), metric=Top1())
    with pytest.raises(InputError, match=r"shape \[16, 6\], expected \[batch, 5\]"):
        measure(onnx_model(np.eye(5, 4)), ctx)


def test_outputs_and_labels_must_be_equally_many() -> None:
    with pytest.raises(InputError, match=r"'logits': found shape \[3, 2\], expected 4 rows"):
        score({"logits": np.zeros((3, 2))}, np.zeros(4, np.int64), Top1())


def test_nan_is_no_score() -> None:
    with pytest.raises(StageError, match="NaN"):
        score({"logits": np.full((3, 2), np.nan)}, np.zeros(3, np.int64), Top1())


def test_one_of_several_outputs_is_scored_by_name() -> None:
    outputs = {"boxes": np.zeros((2, 8)), "logits": np.eye(2)}
    found = score(outputs, np.array([0, 1]), Top1(output="logits"))
    assert found.value == 1.0


def test_a_metric_of_user_code_needs_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric.py").write_text("def half(outputs, labels):\n    return 0.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    metric = Python(function="own_metric:half", unit="points")
    outputs, labels = {"logits": np.eye(2)}, np.array([0, 1])
    with pytest.raises(InputError, match="--allow-code"):
        score(outputs, labels, metric)
    found = score(outputs, labels, metric, allow_code=True)
    assert (found.name, found.value, found.unit) == ("python", 0.5, "points")


def test_every_metric_can_be_scored_or_says_why_not() -> None:
    outputs, labels = {"logits": np.eye(6)}, np.arange(6)
    for name in registry("metrics").names():
        if name != "python":
            assert score(outputs, labels, registry("metrics").get(name)()).value == 1.0
