"""Recipes and targets: names, overrides, chains and everything that is refused at plan time."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.assets import asset_names, find_asset
from edgekit.core.errors import InputError
from edgekit.core.schema import to_plain
from edgekit.core.target import host_cpu, load_target
from edgekit.core.yaml_file import Document, parse_yaml
from edgekit.pipeline.plan import make_plan
from edgekit.pipeline.quick import recipe_for_model
from edgekit.pipeline.recipe import Recipe, load_recipe, recipe_from, stage_labels

BASE = """
edgekit: 1
model: {architecture: mlp, options: {input_shape: [1, 8, 8], hidden: [16], num_classes: 10}}
data: {name: digits}
preprocess: [{to-float: {scale: 16}}]
stages:
"""


def document(stages: str, base: str = BASE) -> Document:
    return parse_yaml(base + stages, Path("mine.yaml"))


def recipe(stages: str, *overrides: str) -> Recipe:
    return recipe_from(document(stages), overrides)


@pytest.mark.parametrize("name", asset_names("recipes"))
def test_shipped_recipe_plans_for_every_shipped_target(name: str) -> None:
    chosen = load_recipe(name)
    for target in asset_names("targets"):
        plan = make_plan(chosen, load_target(target))
        assert plan.stages[0].label == "model"
        assert plan.stages[-1].is_measuring


@pytest.mark.parametrize("name", asset_names("targets"))
def test_shipped_target_loads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert target.simd_lanes in {4, 8, 16}


def test_host_target_is_this_machine() -> None:
    assert load_target("host").cpu == host_cpu()


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown target 'rpi-4'.*Did you mean 'rpi4'"):
        load_target("rpi-4")
    with pytest.raises(InputError, match=r"unknown recipe 'quikstart'.*'quickstart'"):
        load_recipe("quikstart")
    with pytest.raises(InputError, match=r"recipe file 'no/such\.yaml' does not exist"):
        find_asset("recipes", "no/such.yaml")


def test_without_a_recipe_the_message_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="edgekit init"):
        load_recipe(None)


def test_own_folder_comes_before_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "targets").mkdir()
    source = find_asset("targets", "rpi4").read_text(encoding="utf-8")
    (tmp_path / "targets" / "rpi4.yaml").write_text(source.replace("4096", "512"))
    monkeypatch.chdir(tmp_path)
    assert load_target("rpi4").memory_mib == 512


def test_version_line_is_demanded() -> None:
    with pytest.raises(InputError, match="found no `edgekit:` line"):
        recipe_from(parse_yaml("stages: [export]", Path("mine.yaml")))
    with pytest.raises(InputError, match="found 2, expected `edgekit: 1`"):
        recipe_from(parse_yaml("edgekit: 2", Path("mine.yaml")))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("  - trian: {}", r"mine.yaml:\d+: stages\[0\]: unknown stage 'trian'.*'train'"),
        ("  - train: {epoch: 1}", r"mine.yaml:7: stages\[0\] 'train'.epoch: unknown option"),
        ("  - prune: {ratio: 1.5}", r"stages\[0\] 'prune'.ratio is 1.5: expected float < 1.0"),
        ("  - prune: {ratio: 0.5, importance: size}", r"unknown importance.* 'size'"),
        ("  []", r"stages is \[\]: expected array of length >= 1"),
    ],
)
def test_wrong_option_names_file_line_and_path(stages: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(stages)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("  - compile", "stage 'compile' cannot follow 'model'.*found a torch model.*`export`"),
        ("  - export\n  - profile", "'profile' cannot follow 'export'.*`compile`"),
        ("  - export\n  - train: {epochs: 1}", "'train' cannot follow 'export'"),
        ("  - export\n  - compile: {engines: [tvmm]}", "unknown engine 'tvmm'.*'tvm'"),
    ],
)
def test_chain_that_does_not_fit_is_refused_at_plan_time(stages: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(recipe(stages), load_target("host"))


@pytest.mark.parametrize("stage", ["train", "quantize"])
def test_stage_that_needs_data_is_refused_without_it(stage: str) -> None:
    base = BASE.replace("data: {name: digits}\n", "").replace("preprocess:", "preprocess: []\n#")
    before = "  - export\n" if stage == "quantize" else ""
    with pytest.raises(InputError, match=rf"{stage}'? needs (calibration )?data"):
        make_plan(recipe_from(document(f"{before}  - {stage}", base)), load_target("host"))


@pytest.mark.parametrize(
    ("stages", "part"),
    [("  - export\n  - quantize", "calibration"), ("  - train", "validation")],
)
def test_empty_part_is_refused_at_plan_time(stages: str, part: str) -> None:
    chosen = recipe(stages, f"data.split={{{part}: 0}}")
    with pytest.raises(InputError, match=f"the {part} split is needed here and is empty"):
        make_plan(chosen, load_target("host"))


def test_set_replaces_an_option_by_stage_name() -> None:
    changed = recipe("  - train: {epochs: 1}\n  - export", "train.epochs=3", "seed=7")
    assert changed.stages[0].epochs == 3  # type: ignore[attr-defined]
    assert changed.seed == 7


def test_set_reaches_into_variants_and_bare_names() -> None:
    changed = recipe(
        "  - export\n  - quantize: {observer: kl-calib}", "quantize.observer.kl-calib.num_bins=512"
    )
    plain = to_plain(changed.stages[1])
    assert plain["observer"]["kl-calib"]["num_bins"] == 512


@pytest.mark.parametrize("methods", ["[kd]", "[{kd: {}}]", "[{kd: }]", "[{kd: {weight: 0.5}}]"])
def test_set_reaches_into_lists_by_name(methods: str) -> None:
    stages = f"  - prune: {{ratio: 0.5, finetune: {{teacher: input, methods: {methods}}}}}"
    changed = recipe(stages, "prune.finetune.methods.kd.temperature=2")
    (method,) = to_plain(changed.stages[0])["finetune"]["methods"]
    assert method["kd"]["temperature"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs.x=1", "found 1 before 'x'|found 1, expected a path"),
        ("train", "expected KEY=VALUE"),
        ("train=3", "expected an option behind the stage's name"),
        ("trian.epochs=3", "no stage 'trian' here.*'train'"),
        ("export.opset=18", r"ambiguous.*stages\[1\], stages\[2\]"),
        ("train.epoch=3", "unknown option 'epoch'"),
        ("stages=3", "stages is 3"),
    ],
)
def test_set_that_fits_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe("  - train: {epochs: 1}\n  - export\n  - export", text)


def test_repeated_stages_get_distinct_labels() -> None:
    assert stage_labels(recipe("  - train\n  - train\n  - export").stages) == (
        "train",
        "train-2",
        "export",
    )


def test_until_names_the_stages_there_are() -> None:
    with pytest.raises(InputError, match="--until 'exprt': expected one of model, train, export"):
        make_plan(recipe("  - train\n  - export"), load_target("host"), until="exprt")


def test_int8_without_data_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(b"")
    with pytest.raises(InputError, match="int8 needs data: ranges are never calibrated on random"):
        recipe_for_model(model, data=None, precision="int8")


def test_data_that_is_nothing_known_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(b"")
    with pytest.raises(InputError, match=r"--data 'digts' is neither.*'digits'"):
        recipe_for_model(model, data="digts", precision="fp32")
