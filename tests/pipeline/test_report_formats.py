from __future__ import annotations

import io
from collections.abc import Callable

import msgspec
import pytest
from rich.console import Console

from edgekit.core.errors import InputError, StageError
from edgekit.core.metric import Metric
from edgekit.core.report import BuildReport, Mismatch
from edgekit.pipeline.report import json_report, markdown, rows, terminal, wording
from tests.pipeline import sample_reports

Golden = Callable[[str, str], None]
SAMPLES = {"emulated": sample_reports.emulated, "measured": sample_reports.measured}


def on_terminal(report: BuildReport, width: int = 100, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    terminal.render(report, Console(file=file, width=width))
    file.flush()
    return "\n".join(line.rstrip() for line in raw.getvalue().decode(encoding).splitlines()) + "\n"


@pytest.mark.parametrize("name", SAMPLES)
def test_the_terminal_report_reads_as_before(name: str, golden: Golden) -> None:
    golden(f"{name}.txt", on_terminal(SAMPLES[name]()))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_markdown_report_reads_as_before(name: str, golden: Golden) -> None:
    golden(f"{name}.md", markdown.render(SAMPLES[name]()))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_json_report_reads_as_before(name: str, golden: Golden) -> None:
    golden(f"{name}.json", json_report.render(SAMPLES[name]()).decode())


@pytest.mark.parametrize("name", SAMPLES)
def test_the_json_report_reads_back(name: str) -> None:
    report = SAMPLES[name]()
    assert json_report.parse(json_report.render(report)) == report


def test_the_headline_says_it_all() -> None:
    assert wording.headline(sample_reports.emulated()) == (
        "rpi4 (emulated): onnxruntime int8, 0.9130 top-1, 84.0 KiB, budgets met, 1 not measured"
    )
    assert wording.headline(sample_reports.measured()) == (
        "x86-64-v4-vnni: tvm int8, 0.9583 top-1, 57.0 KiB, 1 budget missed"
    )


def test_a_build_without_budgets_or_engines_has_a_headline() -> None:
    report = BuildReport(recipe="r", target="t", stages=())
    assert wording.headline(report) == "t: nothing was measured, no budgets set"
    assert "No device" not in on_terminal(report)


@pytest.mark.parametrize("width", [60, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = on_terminal(sample_reports.emulated(), width).splitlines()
    assert max(len(line) for line in lines) <= width


def test_an_old_terminal_gets_ascii() -> None:
    text = on_terminal(sample_reports.measured(), encoding="ascii")
    assert text.isascii()
    assert "x |size" in text


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    terminal.render(sample_reports.measured(), Console(file=file, force_terminal=True, width=90))
    # Bold stays, colours (SGR 30 to 37 and 90 to 97) go.
    assert "\x1b[31m" not in file.getvalue()
    assert "\x1b[32m" not in file.getvalue()


@pytest.mark.parametrize("render", [on_terminal, markdown.render])
def test_an_emulated_report_shows_no_latency(render: Callable[[BuildReport], str]) -> None:
    timed = sample_reports.measured().engines
    report = msgspec.structs.replace(sample_reports.emulated(), engines=timed, selected="tvm")
    text = render(report)
    assert "0.148 ms" not in text
    assert "0.171 ms" not in text  # nor the 90th percentile
    assert "61.3 MiB" not in text
    assert "emulated" in text


def test_budgets_that_were_not_measured_say_so() -> None:
    row = rows.verdict_rows(sample_reports.emulated())[-1]
    assert (row.found, row.status) == ("", "not measured")
    assert "not measured: the device is emulated" in on_terminal(sample_reports.emulated())
    assert "not measured" in markdown.render(sample_reports.emulated())


def test_ten_mismatches_are_listed_and_the_others_counted() -> None:
    found = tuple(Mismatch(engine="tvm", index=i, host=1, device=2, label=1) for i in range(13))
    report = msgspec.structs.replace(sample_reports.emulated(), mismatches=found)
    lines = rows.mismatch_lines(report)
    assert len(lines) == 11
    assert lines[0] == "tvm: sample 0: host 1, device 2, label 1"
    assert lines[-1] == "and 3 more"


def test_a_warning_of_a_stage_is_told_once_with_its_stage() -> None:
    report = sample_reports.emulated()
    of_stage = report.stages[4].warnings[0]
    report = msgspec.structs.replace(report, warnings=(of_stage, "another"))
    assert rows.warning_lines(report) == ("another", f"quantize: {of_stage}")


@pytest.mark.parametrize("render", [on_terminal, markdown.render])
def test_foreign_text_cannot_steer_the_reader(render: Callable[[BuildReport], str]) -> None:
    text = render(sample_reports.hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_foreign_text_is_not_markup_on_a_terminal() -> None:
    assert "[red]" in on_terminal(sample_reports.hostile(), width=400)


def test_foreign_text_is_not_markup_in_markdown() -> None:
    text = markdown.render(sample_reports.hostile()).replace("\\<", "").replace("\\|", "")
    # What remains of the hostile name stands in the code span of the bundle's path only.
    assert text.count("<script>") == 1
    assert all(line.count("|") in {0, 5, 6, 7} for line in text.splitlines()[:-1])


def test_a_number_json_cannot_hold_is_refused() -> None:
    report = sample_reports.emulated()
    stage = msgspec.structs.replace(report.stages[1], metrics=(Metric("loss", float("nan")),))
    report = msgspec.structs.replace(report, stages=(stage,))
    with pytest.raises(StageError, match="stage 'train' reports loss: found nan"):
        json_report.render(report)


def test_a_damaged_json_report_is_refused() -> None:
    with pytest.raises(InputError, match="damaged or of another version"):
        json_report.parse(b"{}")


def test_a_json_report_of_a_later_version_is_refused() -> None:
    report = msgspec.structs.replace(sample_reports.emulated(), schema=99)
    with pytest.raises(InputError, match="found schema 99, expected schema 1"):
        json_report.parse(json_report.render(report))
