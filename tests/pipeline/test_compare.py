from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from edgekit.core.canonical import sha256_bytes
from edgekit.core.errors import InputError
from edgekit.core.report import BuildReport, EngineReport
from edgekit.pipeline.bundle import BundleFacts, make_manifest
from edgekit.pipeline.compare import Comparison, compare, compare_bundles
from edgekit.pipeline.judgement import Row
from edgekit.pipeline.manifest import measurements_of, to_json
from edgekit.pipeline.report.comparison import (
    comparison_json,
    comparison_markdown,
    lineage_lines,
    render_comparison,
    title,
)
from edgekit.pipeline.verify import OpenBundle
from tests.pipeline import sample_reports
from tests.pipeline.sample_bundles import bundle, facts, lineage

Golden = Callable[[str, str], None]


def opened(report: BuildReport, about: BundleFacts | None) -> OpenBundle:
    manifest = make_manifest(about or facts(), {})
    return OpenBundle(
        folder=Path(),
        manifest=manifest,
        manifest_digest=sha256_bytes(to_json(manifest)),
        measurements=measurements_of(report, {}),
        report=report,
    )


def between(
    old: BuildReport,
    new: BuildReport,
    before: BundleFacts | None = None,
    after: BundleFacts | None = None,
) -> Comparison:
    return compare_bundles(opened(old, before), opened(new, after))


def row(comparison: Comparison, group: str, name: str) -> Row:
    return next(r for r in comparison.rows if (r.group, r.name) == (group, name))


def with_engine(report: BuildReport, name: str, **changes: object) -> BuildReport:
    def change(engine: EngineReport) -> EngineReport:
        return msgspec.structs.replace(engine, **changes) if engine.engine == name else engine

    return msgspec.structs.replace(report, engines=tuple(map(change, report.engines)))


def improved() -> BuildReport:
    """The emulated build with a quicker, smaller, qualified tvm engine and one budget missed."""
    report = with_engine(
        sample_reports.emulated(),
        "tvm",
        disqualified=None,
        integer_ops=14,
        float_ops=0,
        instructions_m=31.9,
        size_bytes=90_112,
    )
    missed = msgspec.structs.replace(report.verdicts[0], status="missed", found=0.02)
    return msgspec.structs.replace(report, verdicts=(missed, *report.verdicts[1:]))


CHANGED = facts(
    lineage("train", epochs=6),
    lineage("export", "2", options={"opset": 20}, tools={"onnx": "1.23.0"}),
    lineage("compile", "2"),
    tools={"torch": "2.13.1"},
)
BEFORE = facts(
    lineage("train", epochs=6),
    lineage("export", options={"opset": 18}, tools={"onnx": "1.22.0"}),
    lineage("compile"),
)


def test_a_bundle_equals_itself() -> None:
    found = between(sample_reports.emulated(), sample_reports.emulated())
    assert found.is_same_build
    assert found.lineage is None
    assert {r.judgement for r in found.rows} == {"equal"}
    assert title(found) == "The same build: equal manifests"


def test_what_became_better_and_worse_is_said() -> None:
    found = between(sample_reports.emulated(), improved(), BEFORE, CHANGED)
    assert row(found, "engine tvm", "size").judgement == "better"
    assert row(found, "engine tvm", "size").delta == 90_112 - 131_072
    assert row(found, "engine tvm", "instructions (emulated)").judgement == "better"
    state = row(found, "engine tvm", "state")
    assert (state.judgement, state.old, state.new) == ("better", "disqualified", "qualified")
    assert row(found, "budgets", "top-1 drop").judgement == "worse"
    assert row(found, "tools", "torch").judgement == "changed"
    assert title(found) == "3 better, 1 worse"


def test_the_other_way_round_better_is_worse() -> None:
    found = between(improved(), sample_reports.emulated())
    assert row(found, "engine tvm", "state").judgement == "worse"
    assert row(found, "engine tvm", "size").judgement == "worse"


def test_the_comparison_reads_as_before(golden: Golden) -> None:
    found = between(sample_reports.emulated(), improved(), BEFORE, CHANGED)
    file = io.StringIO()
    render_comparison(found, Console(file=file, width=100))
    lines = "\n".join(line.rstrip() for line in file.getvalue().splitlines())
    golden("comparison.txt", lines + "\n")
    golden("comparison.md", comparison_markdown(found))
    golden("comparison.json", comparison_json(found).decode())


def test_folders_and_archives_are_compared_alike(tmp_path: Path) -> None:
    old = bundle(tmp_path, "old", about=BEFORE)
    new = bundle(tmp_path, "new", report=improved(), about=CHANGED)
    assert compare(old.folder, new.archive) == compare(old.archive, new.folder)
    assert title(compare(old.folder, new.folder)) == "3 better, 1 worse"


def test_figures_of_two_targets_are_not_comparable() -> None:
    found = between(sample_reports.emulated(), sample_reports.measured())
    for name in ("latency p50", "instructions (emulated)", "peak memory"):
        latency = row(found, "engine tvm", name)
        assert latency.judgement == "not comparable"
        assert latency.reason == "another target"
        assert latency.delta is None
    assert row(found, "engine tvm", "size").judgement == "better"
    assert row(found, "engine tvm", "accuracy on the device").reason == "other samples"


@pytest.mark.parametrize("is_real_first", [True, False])
def test_emulated_and_real_are_not_comparable(is_real_first: bool) -> None:
    real = sample_reports.measured()
    assert real.device is not None
    device = msgspec.structs.replace(real.device, kind="emulated")
    emulated = with_engine(msgspec.structs.replace(real, device=device), "tvm", instructions_m=4.2)
    one, other = (real, emulated) if is_real_first else (emulated, real)
    latency = row(between(one, other), "engine tvm", "latency p50")
    # What the emulator's clock said is not shown at all.
    assert {latency.old, latency.new} == {0.0631, None}
    assert (latency.old is None) is not is_real_first
    assert (latency.judgement, latency.reason) == ("not comparable", "one of them was emulated")


@pytest.mark.parametrize(
    ("factor", "judgement"), [(0.9, "better"), (1.04, "equal"), (0.96, "equal"), (1.06, "worse")]
)
def test_noise_of_timing_is_no_change(factor: float, judgement: str) -> None:
    old = sample_reports.measured()
    latency = old.engines[1].latency
    assert latency is not None
    slower = msgspec.structs.replace(latency, p50_ms=latency.p50_ms * factor)
    found = between(old, with_engine(old, "tvm", latency=slower))
    assert row(found, "engine tvm", "latency p50").judgement == judgement


def test_latency_with_other_threads_is_not_comparable() -> None:
    old = sample_reports.measured()
    latency = old.engines[1].latency
    assert latency is not None
    other = msgspec.structs.replace(latency, num_threads=4)
    found = between(old, with_engine(old, "tvm", latency=other))
    assert row(found, "engine tvm", "latency p50").reason == "2 and 4 threads"


def test_latency_on_another_device_is_not_comparable() -> None:
    old = sample_reports.measured()
    assert old.device is not None
    device = msgspec.structs.replace(old.device, fingerprint="another one")
    found = between(old, msgspec.structs.replace(old, device=device))
    assert row(found, "engine tvm", "latency p50").reason == "another device"


def test_an_engine_on_one_side_only_is_named() -> None:
    old = sample_reports.measured()
    found = between(old, msgspec.structs.replace(old, engines=old.engines[1:]))
    state = row(found, "engine onnxruntime", "state")
    assert (state.old, state.new, state.judgement) == ("built", "not built", "changed")


def test_another_metric_is_not_comparable() -> None:
    old = sample_reports.measured()
    found = between(old, msgspec.structs.replace(old, metric="f1"))
    assert row(found, "result", "f1").reason == "top-1 before, f1 now"


def test_a_budget_with_another_limit_is_changed() -> None:
    old = sample_reports.measured()
    looser = msgspec.structs.replace(old.verdicts[2], limit=0.5, status="passed")
    verdicts = (*old.verdicts[:2], looser)
    found = between(old, msgspec.structs.replace(old, verdicts=verdicts))
    assert row(found, "budgets", "size").judgement == "changed"
    assert row(found, "budgets", "latency p50").new == "not set"


def test_the_first_stage_with_another_key_is_named_with_what_differs() -> None:
    found = between(sample_reports.emulated(), improved(), BEFORE, CHANGED).lineage
    assert found is not None
    assert (found.stage, found.kind) == ("export", "input")
    assert [(field.name, field.old, field.new) for field in found.fields] == [
        ("options.opset", "18", "20"),
        ("tools.onnx", "1.22.0", "1.23.0"),
    ]


def test_without_the_parts_of_keys_the_recipes_are_compared() -> None:
    old = facts(msgspec.structs.replace(lineage("train"), key="a"), recipe_options={"seed": 0})
    new = facts(msgspec.structs.replace(lineage("train"), key="b"), recipe_options={"seed": 1})
    found = between(sample_reports.emulated(), sample_reports.emulated(), old, new).lineage
    assert found is not None
    assert [field.name for field in found.fields] == ["recipe.seed"]


def test_an_equal_key_with_another_payload_is_not_reproducible() -> None:
    old = facts(lineage("train"), lineage("export"))
    new = facts(lineage("train"), lineage("export", "2"))
    found = between(sample_reports.emulated(), sample_reports.emulated(), old, new)
    assert found.lineage is not None
    assert (found.lineage.stage, found.lineage.kind) == ("export", "not reproducible")
    assert "not reproducible" in lineage_lines(found)[0]


@pytest.mark.parametrize(("first", "kind"), [(1, "added"), (3, "removed")])
def test_a_stage_on_one_side_only_is_named(first: int, kind: str) -> None:
    stages = [lineage(name) for name in ("train", "export", "compile")]
    report = sample_reports.emulated()
    found = between(report, report, facts(*stages[:first]), facts(*stages[: 4 - first])).lineage
    assert found is not None
    assert (found.stage, found.kind) == ("export", kind)


def test_names_of_bundles_are_not_markup() -> None:
    hostile = msgspec.structs.replace(sample_reports.hostile(), target="rpi4")
    found = between(hostile, hostile)
    file = io.StringIO()
    render_comparison(found, Console(file=file, width=400))
    assert "\x1b" not in file.getvalue()
    assert "[red]" in file.getvalue()
    assert "<script>" not in comparison_markdown(found).replace("\\<", "")


def test_a_damaged_bundle_is_not_compared(tmp_path: Path) -> None:
    folder = bundle(tmp_path).folder
    (folder / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"found model\.onnx missing"):
        compare(folder, folder)
