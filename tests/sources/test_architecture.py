from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from edgekit.core.errors import InputError
from edgekit.core.model import ModelKind
from edgekit.core.registry import registry
from edgekit.core.stage import Stage, StageContext
from edgekit.sources.architecture import Architecture
from edgekit.zoo.checkpoint import load


def mlp(weights: str | None = None, **options: object) -> Architecture:
    kind = registry("architectures").get("mlp")
    entry = kind(**{"hidden": (8,), "input_shape": (1, 8, 8), **options})
    return Architecture(architecture="mlp", options=entry, weights=weights)


def test_keeps_its_contract() -> None:
    source = mlp()
    assert isinstance(source, Stage)
    assert source.accepts == frozenset()
    assert source.produces(None) is ModelKind.TORCH


def test_a_fresh_network_takes_names_and_labels_from_the_data(
    context: Callable[..., StageContext],
) -> None:
    ctx, source = context(), mlp()
    source.requires(None, ctx)
    result = source.run(None, ctx)
    source.ensures(None, result, ctx)
    assert result.model.inputs == ctx.data.signature()
    assert result.model.labels == tuple("0123456789")
    assert result.model.path == ctx.workdir


def test_the_accuracy_of_random_weights_is_not_measured(
    context: Callable[..., StageContext],
) -> None:
    metrics = mlp().run(None, context()).metrics
    assert [metric.name for metric in metrics] == ["params", "macs", "size_bytes"]


def test_weights_depend_on_the_seed_alone(context: Callable[..., StageContext]) -> None:
    files = [
        mlp().run(None, context(folder=folder, seed=seed)).model.path / "weights.safetensors"
        for folder, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


def test_works_without_data(context: Callable[..., StageContext]) -> None:
    ctx = context(data=None)
    mlp().requires(None, ctx)
    model = mlp().run(None, ctx).model
    assert [spec.name for spec in model.inputs] == ["input"]
    assert model.labels == ()


def test_weights_come_from_a_file_and_are_measured(
    context: Callable[..., StageContext],
) -> None:
    theirs = mlp().run(None, context(folder="a", seed=5)).model
    path = str(theirs.path / "weights.safetensors")
    result = mlp(path).run(None, context(folder="b"))
    ours, wanted = (load(model).module.state_dict() for model in (result.model, theirs))
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)
    assert result.metrics[0].name == "top-1"


def test_weights_of_another_network_are_refused(context: Callable[..., StageContext]) -> None:
    theirs = mlp(hidden=(16,)).run(None, context(folder="a")).model
    path = str(theirs.path / "weights.safetensors")
    with pytest.raises(InputError, match=r"1.weight is \[16, 64\] instead of \[8, 64\]"):
        mlp(path).run(None, context(folder="b"))


def test_data_of_another_shape_is_refused(context: Callable[..., StageContext]) -> None:
    with pytest.raises(InputError, match=r"\[N, 1, 8, 8\] float32, expected \[N, 64\] float32"):
        mlp(input_shape=(64,)).requires(None, context())


def test_another_number_of_classes_is_refused(context: Callable[..., StageContext]) -> None:
    with pytest.raises(InputError, match=r"found 7 classes and data with 10 labels"):
        mlp(num_classes=7).requires(None, context())
