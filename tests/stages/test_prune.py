from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_struct
from edgekit.core.stage import Stage, StageContext, StageResult
from edgekit.core.target import Cpu, Os, Target
from edgekit.sources.architecture import Architecture
from edgekit.stages.prune import Prune
from edgekit.zoo.checkpoint import load
from edgekit.zoo.surgery import read_surgery

Context = Callable[..., StageContext]


@pytest.fixture
def model(context: Context) -> ModelHandle:
    """A fresh small ResNet for 8x8 images: weights don't matter for what is tested here."""
    options = registry("architectures").get("resnet8")(width=8, image_size=8)
    source = Architecture(architecture="resnet8", options=options)
    return source.run(None, context(folder="source")).model


def stage(**options: object) -> Prune:
    return resolve_struct(options, Prune, Where("recipe"))


def drive(chosen: Prune, model: ModelHandle, ctx: StageContext) -> StageResult:
    chosen.requires(model, ctx)
    result = chosen.run(model, ctx)
    chosen.ensures(model, result, ctx)
    return result


def value(result: StageResult, name: str) -> float:
    return next(metric.value for metric in result.metrics if metric.name == name)


def test_keeps_its_contract() -> None:
    chosen = stage(ratio=0.5)
    assert isinstance(chosen, Stage)
    assert chosen.accepts == {ModelKind.TORCH}
    assert chosen.produces(ModelKind.TORCH) is ModelKind.TORCH
    assert registry("importance").name_of(type(chosen.importance)) == "l2"


@pytest.mark.parametrize("importance", ["l2", {"taylor": {"num_batches": 2, "batch_size": 32}}])
def test_half_the_macs_go_and_the_report_says_where(
    model: ModelHandle, context: Context, importance: object
) -> None:
    result = drive(stage(ratio=0.5, importance=importance), model, context())
    found = result.details
    assert 0.5 <= found["achieved"] <= 0.5 + found["step"]
    assert found["macs"]["after"] == value(result, "macs")
    assert found["params"]["after"] == value(result, "params")
    assert 1 - found["macs"]["after"] / found["macs"]["before"] == pytest.approx(found["achieved"])
    layers = {row["layer"]: row for row in found["layers"]}
    loaded = load(result.model).module
    for name, row in layers.items():
        assert loaded.get_submodule(name).out_channels == row["after"] <= row["before"]
    assert found["untouched"] == {"classifier": "reaches the model's output"}
    assert 0.0 <= value(result, "top-1") <= 1.0
    json.dumps(msgspec.to_builtins(found))


def test_ratio_zero_changes_no_bit(model: ModelHandle, context: Context) -> None:
    result = drive(stage(ratio=0), model, context())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(load(result.model).module(x), load(model).module(x))
    assert read_surgery(result.model.path) == ()


def test_a_new_process_computes_the_same_bits(model: ModelHandle, context: Context) -> None:
    result = drive(stage(ratio=0.4), model, context())
    x = torch.arange(128, dtype=torch.float32).reshape(2, 1, 8, 8) / 128
    with torch.no_grad():
        here = load(result.model).module(x).numpy()
    script = (
        "import pathlib, sys, torch\n"
        "from edgekit.zoo.checkpoint import load, open_folder\n"
        "torch.set_num_threads(1)\n"
        "x = torch.arange(128, dtype=torch.float32).reshape(2, 1, 8, 8) / 128\n"
        "with torch.no_grad():\n"
        "    y = load(open_folder(pathlib.Path(sys.argv[1]))).module(x)\n"
        "sys.stdout.buffer.write(y.numpy().tobytes())\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, str(result.model.path)], capture_output=True, check=True
    ).stdout
    assert np.array_equal(np.frombuffer(there, np.float32).reshape(here.shape), here)


def test_pruning_again_adds_to_the_surgery(model: ModelHandle, context: Context) -> None:
    once = drive(stage(ratio=0.3), model, context(folder="once"))
    twice = drive(stage(ratio=0.3), once.model, context(folder="twice"))
    first, both = (read_surgery(result.model.path) for result in (once, twice))
    assert both[: len(first)] == first
    assert len(both) > len(first)


def test_the_same_seed_gives_the_same_bytes(model: ModelHandle, context: Context) -> None:
    chosen = stage(ratio=0.4, importance={"taylor": {"num_batches": 2}})
    one, two = (drive(chosen, model, context(folder=name)).model.path for name in ("one", "two"))
    for name in ("surgery.json", "weights.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_fine_tuning_is_measured_before_and_after(model: ModelHandle, context: Context) -> None:
    finetune = {"epochs": 2, "lr": 0.05, "teacher": "input", "methods": ["kd"]}
    result = drive(stage(ratio=0.3, finetune=finetune), model, context())
    assert set(result.details["before_finetune"]) == {"top-1"}
    assert len(result.details["finetune"]["epochs"]) == 2


def test_channels_fill_the_vectors_of_the_target(model: ModelHandle, context: Context) -> None:
    chosen = stage(ratio=0.3, round_to="simd")
    assert chosen.reads == ("cpu",)
    assert stage(ratio=0.3, round_to=8).reads == ()
    target = Target(
        name="board",
        cpu=Cpu(isa="aarch64", core="cortex-a72", features=("neon",)),
        os=Os(triple="aarch64-linux-gnu"),
    )
    result = drive(chosen, model, context(target=target))
    for row in result.details["layers"]:
        assert row["after"] % target.simd_lanes == 0 or row["after"] == row["before"]


def test_ignored_layers_and_what_is_coupled_to_them_stay(
    model: ModelHandle, context: Context
) -> None:
    result = drive(stage(ratio=0.2, ignored=["block2.body.first"]), model, context())
    assert "block2.body.first.conv" in result.details["untouched"]


def test_an_unknown_ignored_module_is_refused_with_the_nearest(
    model: ModelHandle, context: Context
) -> None:
    with pytest.raises(InputError, match=r"no module matches 'blokc2'.*Did you mean 'block2'"):
        stage(ratio=0.2, ignored=["blokc2"]).requires(model, context())


def test_a_ratio_that_would_empty_a_layer_is_refused_before_the_work(
    model: ModelHandle, context: Context
) -> None:
    with pytest.raises(InputError, match=r"ratio is 0.999 and would leave layer 'stem.conv'"):
        stage(ratio=0.999).requires(model, context())


@pytest.mark.parametrize("ratio", [1.0, 1.5, -0.1])
def test_a_ratio_out_of_range_is_refused_by_the_schema(ratio: float) -> None:
    with pytest.raises(InputError, match=rf"recipe: ratio is {ratio}.*0.3 removes 30% of the MACs"):
        stage(ratio=ratio)


def test_round_to_takes_a_number_or_simd() -> None:
    with pytest.raises(InputError, match="recipe: round_to is 'sse'"):
        stage(ratio=0.1, round_to="sse")
    with pytest.raises(InputError, match="recipe: round_to is 0"):
        stage(ratio=0.1, round_to=0)


@pytest.mark.parametrize(
    ("options", "what"),
    [({"importance": "taylor"}, "importance"), ({"finetune": {}}, "finetune")],
)
def test_what_needs_data_is_refused_without(options: dict[str, object], what: str) -> None:
    chosen = stage(ratio=0.1, **options)
    with pytest.raises(InputError, match=rf"prune.{what} needs labelled data"):
        chosen.check(None, has_data=False)
    stage(ratio=0.1).check(None, has_data=False)


def test_l2_without_fine_tuning_needs_no_data(model: ModelHandle, context: Context) -> None:
    result = drive(stage(ratio=0.3), model, context(data=None, metric=None))
    assert "top-1" not in {metric.name for metric in result.metrics}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs": {"before": 1, "after": 2}}, r"pruned model on disk: found \d+ MACs, expected 2"),
        ({"achieved": 0.9}, r"how much was pruned, by macs: found 0.9000, expected 0.3000"),
    ],
)
def test_a_broken_promise_is_noticed(
    model: ModelHandle, context: Context, changes: dict[str, object], message: str
) -> None:
    ctx = context()
    chosen = stage(ratio=0.3)
    result = chosen.run(model, ctx)
    broken = msgspec.structs.replace(result, details={**result.details, **changes})
    with pytest.raises(StageError, match=message):
        chosen.ensures(model, broken, ctx)
