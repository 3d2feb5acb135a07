from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.core.errors import InputError, StageError
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_variant
from edgekit.data.contracts import MetricFunction
from edgekit.data.metrics.python import Python

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


def metric(value: object) -> MetricFunction:
    entry: MetricFunction = resolve_variant(value, "metrics", Where("r.yaml"))
    return entry


@pytest.mark.parametrize("name", registry("metrics").names())
def test_every_metric_offers_the_contract_and_help(name: str) -> None:
    entry = registry("metrics").get(name)
    assert registry("metrics").help(name)
    assert callable(entry.compute)
    assert hasattr(entry, "better")
    assert hasattr(entry, "unit")


def test_only_user_functions_need_permission() -> None:
    entries = {name: registry("metrics").get(name) for name in registry("metrics").names()}
    assert [n for n, e in entries.items() if getattr(e, "requires_code", False)] == ["python"]


def test_top_1_counts_best_scores() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert metric("top-1").compute(scores, np.array([1, 0, 0])) == 2 / 3


def test_ties_go_to_the_lower_class() -> None:
    scores = np.zeros((1, 6))
    assert metric("top-1").compute(scores, np.array([0])) == 1.0
    assert metric("top-1").compute(scores, np.array([1])) == 0.0
    assert metric("top-5").compute(scores, np.array([4])) == 1.0
    assert metric("top-5").compute(scores, np.array([5])) == 0.0


@given(st.integers(0, 2**32 - 1))
def test_top_5_equals_sorting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 4, (30, 9)), rng.integers(0, 9, 30)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    expected = float((best == labels[:, None]).any(axis=1).mean())
    assert metric("top-5").compute(scores, labels) == expected


@given(st.integers(0, 2**32 - 1))
def test_f1_equals_scikit_learn(seed: int) -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(seed)
    scores, labels = rng.random((12, 4)), rng.integers(0, 4, 12)
    predicted = scores.argmax(axis=1)
    macro = f1_score(labels, predicted, average="macro", zero_division=0)
    assert metric("f1").compute(scores, labels) == pytest.approx(macro)
    one = f1_score(labels == 2, predicted == 2, zero_division=0)
    binary = metric({"f1": {"average": "binary", "positive": 2}})
    assert binary.compute(scores, labels) == pytest.approx(one)


def test_an_output_can_be_chosen_by_name() -> None:
    outputs = {"hidden": np.zeros((2, 3, 4)), "logits": np.eye(2)}
    assert metric({"top-1": {"output": "logits"}}).compute(outputs, np.array([0, 1])) == 1.0
    assert metric("top-1").compute({"logits": np.eye(2)}, np.array([0, 1])) == 1.0


@pytest.mark.parametrize(
    ("options", "outputs", "labels", "message"),
    [
        ("top-1", {"a": 0, "b": 1}, [0], "found outputs a, b. Hint: Set its option `output`"),
        ({"top-1": {"output": "logit"}}, {"logits": 0}, [0], "no output 'logit'.*'logits'"),
        ("top-1", np.zeros(3), [0, 1, 2], r"found outputs of shape \(3,\) for 3 labels"),
        ("f1", np.zeros((2, 3)), [0], r"found outputs of shape \(2, 3\) for 1 labels"),
        ("top-1", np.zeros((0, 3)), [], "for 0 labels"),
        ("top-1", np.zeros((1, 3)), [3], "found class 3 among the labels, expected classes below"),
        ("top-5", np.zeros((1, 5)), [0], "'top-5': found 5 classes, expected more than 5"),
        (
            {"f1": {"average": "binary", "positive": 3}},
            np.zeros((1, 3)),
            [0],
            "found positive class 3, expected 0 to 2",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    options: object, outputs: NDArray[np.floating], labels: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        metric(options).compute(outputs, np.array(labels, np.int64))


@pytest.mark.parametrize("name", ["top-1", "f1"])
def test_nan_scores_are_no_prediction(name: str) -> None:
    with pytest.raises(StageError, match="found NaN in the model's outputs"):
        metric(name).compute(np.array([[np.nan, 1.0]]), np.array([0]))


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my_metrics_room"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported too early')\n")
    path = folder / "costs.py"
    path.write_text(
        "def worst(outputs, labels):\n    return outputs.max() - len(labels)\n"
        "def nothing(outputs, labels):\n    return None\n"
        "def nan(outputs, labels):\n    return float('nan')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return path


def user_metric(function: str) -> Python:
    options = {"function": f"my_metrics_room.costs:{function}", "better": "lower"}
    entry: Python = resolve_variant({"python": options}, "metrics", Where("r.yaml"))
    return entry


def test_a_user_function_is_called(user_module: Path) -> None:
    (user_module.parent / "__init__.py").write_text("")
    entry = user_metric("worst")
    assert entry.compute(np.array([[5.0]]), np.array([0])) == 4.0
    assert entry.better == "lower"
    for function, message in (
        ("missing", "my_metrics_room.costs has no function 'missing'"),
        ("nothing", "returned None: expected a finite number"),
        ("nan", "returned nan: expected a finite number"),
    ):
        with pytest.raises(InputError, match=message):
            user_metric(function).compute(np.zeros((1, 1)), np.array([0]))


def test_the_source_of_a_user_function_is_digested_without_importing_it(user_module: Path) -> None:
    before = user_metric("worst").fingerprint()
    user_module.write_text(user_module.read_text() + "# changed\n")
    assert user_metric("worst").fingerprint() != before


def test_a_missing_module_is_named(resolve: Resolve) -> None:
    entry = resolve("metrics", {"python": {"function": "no_such_package.mod:fn"}})
    for act in (entry.fingerprint, lambda: entry.compute(np.zeros((1, 1)), np.array([0]))):
        with pytest.raises(InputError, match=r"no module 'no_such_package.mod'"):
            act()


def test_a_function_needs_a_module(resolve: Resolve) -> None:
    with pytest.raises(InputError, match="function is 'costs'"):
        resolve("metrics", {"python": {"function": "costs"}})
