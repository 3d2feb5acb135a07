"""A key holds everything a result depends on: code, packages, data, files and this processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.canonical import sha256_path
from edgekit.core.target import load_target
from edgekit.core.yaml_file import parse_yaml
from edgekit.pipeline.keys import content_of
from edgekit.pipeline.plan import Plan, make_plan
from edgekit.pipeline.provenance import provenance
from edgekit.pipeline.recipe import recipe_from

RECIPE = """
edgekit: 1
model: {architecture: mlp, options: {input_shape: [1, 8, 8], hidden: [16], num_classes: 10}}
data: {name: digits}
preprocess: [{to-float: {scale: 16}}]
stages:
  - train
  - prune: {ratio: 0.5}
  - export
  - quantize
  - compile
  - profile
"""


def plan(*overrides: str, target: str = "rpi4", num_threads: int = 2) -> Plan:
    recipe = recipe_from(parse_yaml(RECIPE, Path("mine.yaml")), overrides)
    return make_plan(recipe, load_target(target), num_threads=num_threads)


def differing(one: Plan, other: Plan) -> list[str]:
    pairs = zip(one.stages, other.stages, strict=True)
    return [a.label for a, b in pairs if a.key != b.key]


ALL = ["model", "train", "prune", "export", "quantize", "compile", "profile"]


def test_equal_plans_have_equal_keys() -> None:
    assert differing(plan(), plan()) == []


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("seed=1", "model"),
        ("train.epochs=2", "train"),
        ("prune.ratio=0.25", "prune"),
        ("quantize.observer=mse", "quantize"),
        ("compile.engines=[tvm]", "compile"),
        ("profile.num_runs=7", "profile"),
    ],
)
def test_option_changes_its_stage_and_all_after_it(override: str, first: str) -> None:
    assert differing(plan(), plan(override)) == ALL[ALL.index(first) :]


def test_budget_changes_no_key_but_the_size_that_the_compiler_keeps_to() -> None:
    assert differing(plan(), plan("budget={latency_ms: {p50: 1}}")) == []
    assert differing(plan(), plan("budget={size_mib: 1}")) == ["compile", "profile"]


def test_target_changes_only_what_reads_it() -> None:
    assert differing(plan(), plan(target="rpi5")) == ["compile", "profile"]
    simd = "prune.round_to=simd"
    assert differing(plan(simd), plan(simd, target="rpi5"))[0] == "prune"


def test_thread_count_changes_every_result() -> None:
    assert differing(plan(), plan(num_threads=1)) == ALL


@pytest.mark.parametrize(
    ("label", "packages"),
    [
        ("train", {"torch", "numpy", "safetensors"}),
        ("prune", {"torch", "torch-pruning"}),
        ("export", {"torch", "onnx", "onnxruntime"}),
        ("quantize", {"onnx", "onnxruntime", "neural-compressor"}),
        ("compile", {"apache-tvm", "ziglang", "onnxruntime"}),
        ("profile", {"onnxruntime"}),
    ],
)
def test_packages_a_stage_uses_enter_its_key(label: str, packages: set[str]) -> None:
    (stage,) = [stage for stage in plan().stages if stage.label == label]
    assert packages <= set(stage.parts.tools)


@pytest.mark.parametrize(
    "modules",
    [
        ("edgekit.data.datasets.digits", "edgekit.data.preprocess.to_float"),
        ("edgekit.devices.runners.emulated",),
        ("edgekit.compiler.engines.tvm",),
    ],
)
def test_code_reached_by_name_has_a_digest_of_its_own(modules: tuple[str, ...]) -> None:
    base = provenance(["edgekit.stages.export"])
    assert provenance(["edgekit.stages.export", *modules]).source != base.source


def test_folder_of_links_counts_by_content(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / f"blob-{name}").write_bytes(content)
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").symlink_to(tmp_path / f"blob-{name}")
    assert sha256_path(tmp_path / "a") != sha256_path(tmp_path / "b")


def test_changed_file_changes_its_content_within_one_process(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = content_of(str(path))
    path.write_bytes(b"two")
    assert content_of(str(path)) != before
