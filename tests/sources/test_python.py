from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.core.model import ModelKind
from edgekit.core.stage import Stage, StageContext
from edgekit.sources.python import Python
from edgekit.stages.train import Train
from edgekit.zoo.checkpoint import load

CODE = """
from torch import nn
def make(width=4, classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))
"""
SOURCE = Python(python="users_nets:make", options={"width": 6})


@pytest.fixture(autouse=True)
def _code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "users_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("users_nets", None)


def test_keeps_its_contract() -> None:
    assert isinstance(SOURCE, Stage)
    assert SOURCE.produces(None) is ModelKind.TORCH


def test_a_model_of_the_users_code_is_saved_and_loads_again(
    context: Callable[..., StageContext],
) -> None:
    ctx = context(allow_code=True)
    SOURCE.requires(None, ctx)
    result = SOURCE.run(None, ctx)
    SOURCE.ensures(None, result, ctx)
    assert result.model.inputs == ctx.data.signature()
    assert result.model.outputs[0].shape == (None, 10)
    loaded = load(result.model, allow_code=True)
    assert (loaded.architecture.python, loaded.architecture.options) == (
        "users_nets:make",
        {"width": 6},
    )


def test_it_can_be_trained(context: Callable[..., StageContext]) -> None:
    model = SOURCE.run(None, context(allow_code=True, folder="a")).model
    stage, ctx = Train(epochs=1, batch_size=100), context(allow_code=True, folder="b")
    stage.requires(model, ctx)
    stage.ensures(model, stage.run(model, ctx), ctx)


def test_code_is_not_run_unasked(context: Callable[..., StageContext]) -> None:
    with pytest.raises(InputError, match=r"'users_nets:make'.*not run unasked.*--allow-code"):
        SOURCE.requires(None, context())
    with pytest.raises(InputError, match="not run unasked"):
        SOURCE.run(None, context(folder="b"))
    assert "users_nets" not in sys.modules


def test_loading_it_again_needs_the_permission_too(context: Callable[..., StageContext]) -> None:
    model = SOURCE.run(None, context(allow_code=True)).model
    with pytest.raises(InputError, match="not run unasked"):
        load(model)


def test_without_data_the_input_shape_must_be_told(context: Callable[..., StageContext]) -> None:
    ctx = context(data=None, allow_code=True)
    with pytest.raises(InputError, match=r"input shape of 'users_nets:make' is not known"):
        SOURCE.requires(None, ctx)
    told = Python(python="users_nets:make", input_shape=(1, 8, 8))
    told.requires(None, ctx)
    assert told.run(None, ctx).model.inputs[0].shape == (None, 1, 8, 8)


def test_a_model_that_does_not_take_the_data_is_refused(
    context: Callable[..., StageContext],
) -> None:
    source = Python(python="users_nets:make", input_shape=(5,))
    with pytest.raises(InputError, match="running the model on a probe"):
        source.run(None, context(data=None, allow_code=True))


def test_another_number_of_classes_is_refused(context: Callable[..., StageContext]) -> None:
    source = Python(python="users_nets:make", options={"classes": 3})
    with pytest.raises(InputError, match="found 3 classes and data with 10 labels"):
        source.run(None, context(allow_code=True))


def test_the_fingerprint_follows_the_code(tmp_path: Path) -> None:
    before = SOURCE.fingerprint()
    (tmp_path / "users_nets.py").write_text(CODE + "# changed\n")
    assert SOURCE.fingerprint() != before
