from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_variant
from edgekit.core.stage import Stage, StageContext, StageResult
from edgekit.sources.architecture import Architecture
from edgekit.stages.train import Train
from edgekit.zoo.checkpoint import load
from edgekit.zoo.surgery import read_surgery
from edgekit.zoo.weights import write_weights

QUICK = Train(epochs=6, batch_size=32, lr=0.1)


@pytest.fixture
def fresh(context: Callable[..., StageContext]) -> ModelHandle:
    options = registry("architectures").get("mlp")(hidden=(32,), input_shape=(1, 8, 8))
    source = Architecture(architecture="mlp", options=options)
    return source.run(None, context(folder="source")).model


def drive(stage: Stage, model: ModelHandle, ctx: StageContext) -> StageResult:
    stage.requires(model, ctx)
    result = stage.run(model, ctx)
    stage.ensures(model, result, ctx)
    return result


def figures(result: StageResult) -> dict[str, float]:
    return {metric.name: metric.value for metric in result.metrics}


def test_keeps_its_contract() -> None:
    assert isinstance(QUICK, Stage)
    assert QUICK.accepts == {ModelKind.TORCH}
    assert QUICK.produces(ModelKind.TORCH) is ModelKind.TORCH
    assert QUICK.reads == ()


def test_digits_reach_nine_of_ten(fresh: ModelHandle, context: Callable[..., StageContext]) -> None:
    result = drive(QUICK, fresh, context())
    found = figures(result)
    assert found["top-1"] > 0.9
    assert found["params"] == 64 * 32 + 32 + 320 + 10
    assert found["macs"] == 64 * 32 + 320
    assert found["size_bytes"] > 4 * found["params"]
    assert result.details["best_epoch"] >= 1
    assert result.model.labels == tuple("0123456789")


def test_training_twice_leaves_the_same_bytes(
    fresh: ModelHandle, context: Callable[..., StageContext]
) -> None:
    stage = Train(epochs=2, batch_size=50)
    folders = [drive(stage, fresh, context(folder=name)).model.path for name in ("a", "b")]
    first, again = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert first == again


def test_training_goes_on_from_saved_weights(
    fresh: ModelHandle, context: Callable[..., StageContext]
) -> None:
    once = drive(QUICK, fresh, context(folder="a"))
    more = drive(QUICK, once.model, context(folder="b"))
    first_losses = [result.details["epochs"][0]["loss"] for result in (once, more)]
    assert first_losses[1] < first_losses[0] / 4
    assert read_surgery(more.model.path) == ()


def test_the_input_model_is_left_as_it_was(
    fresh: ModelHandle, context: Callable[..., StageContext]
) -> None:
    before = {path.name: path.read_bytes() for path in fresh.path.iterdir()}
    drive(Train(epochs=1, batch_size=200), fresh, context())
    assert {path.name: path.read_bytes() for path in fresh.path.iterdir()} == before


def test_missing_data_is_refused(fresh: ModelHandle, context: Callable[..., StageContext]) -> None:
    with pytest.raises(InputError, match=r"train needs labelled data, and the recipe has none"):
        QUICK.requires(fresh, context(data=None))


def test_broken_weights_are_refused_by_name(
    fresh: ModelHandle, context: Callable[..., StageContext]
) -> None:
    module = load(fresh).module
    with torch.no_grad():
        module[1].weight[0, 0] = float("nan")
    write_weights(fresh.path / "weights.safetensors", module)
    with pytest.raises(InputError, match=r"'1.weight': found 1 of 2048 values NaN or infinite"):
        drive(QUICK, fresh, context())


def test_a_diverging_run_leaves_nothing(
    fresh: ModelHandle, context: Callable[..., StageContext]
) -> None:
    ctx = context()
    stage = Train(epochs=4, lr=10.0, momentum=0.99, schedule="constant", batch_size=20)
    deep = Architecture(
        architecture="mlp",
        options=registry("architectures").get("mlp")(hidden=(64,) * 6, input_shape=(1, 8, 8)),
    )
    model = deep.run(None, context(folder="deep")).model
    with pytest.raises(StageError, match=r"training diverged in epoch"):
        stage.run(model, ctx)
    assert list(ctx.workdir.iterdir()) == []
    assert fresh.path.is_dir()


def test_ensures_finds_a_damaged_result(
    fresh: ModelHandle, context: Callable[..., StageContext]
) -> None:
    ctx = context()
    result = drive(Train(epochs=1, batch_size=200), fresh, ctx)
    weights = result.model.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(InputError, match="truncated or not safetensors"):
        QUICK.ensures(fresh, result, ctx)


def test_a_recipe_gives_its_options() -> None:
    recipe = {"train": {"epochs": 3, "lr": 0.1, "augment": {"flip": True}}}
    found = resolve_variant(recipe, "stages", Where())
    assert (type(found), found.epochs, found.augment.flip) == (Train, 3, True)
    with pytest.raises(InputError, match=r"unknown option 'epoch'.*'epochs'"):
        resolve_variant({"train": {"epoch": 3}}, "stages", Where())
