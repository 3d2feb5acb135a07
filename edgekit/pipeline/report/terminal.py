"""The report on a terminal. Foreign text is never read as markup; NO_COLOR is rich's to obey."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.core.report import BuildReport, EngineReport
from edgekit.pipeline.report import rows, wording
from edgekit.pipeline.report.foreign import printable

_MARKS = {"passed": ("✓", "green"), "missed": ("✗", "bold red"), "not measured": ("○", "yellow")}
_ROLES = {"selected": ("▸", "bold green"), "disqualified": ("✗", "dim"), "": ("", "")}
_ASCII_MARKS = {"✓": "+", "✗": "x", "○": "o", "▸": ">"}


def render(report: BuildReport, console: Console) -> None:
    """Print a report: headline, stages, engines, budgets, differences, warnings, place."""
    ascii_only = console.options.ascii_only
    console.print()
    console.print(_headline(report))
    _part(console, "Stages", _stages(report))
    if report.engines:
        _part(console, "Engines", _engines(report, ascii_only=ascii_only), *_engine_notes(report))
    for engine in rows.ordered_engines(report):
        if engine.steps:
            title = f"Steps of {printable(engine.engine)}"
            _part(console, title, _steps(engine, report), Text(rows.step_summary(engine)))
    if report.verdicts:
        _part(console, "Budgets", _verdicts(report, ascii_only=ascii_only))
    mismatches = rows.mismatch_lines(report)
    if mismatches:
        _part(console, "Host and device disagree", *[Text(line) for line in mismatches])
    warnings = rows.warning_lines(report)
    if warnings:
        _part(console, "Warnings", *[Text(line, style="yellow") for line in warnings])
    if report.output:
        console.print()
        # A path is printed unbroken: it is there to be copied.
        console.print(Text(f"Bundle  {printable(report.output)}", style="bold"), soft_wrap=True)


def grid(columns: Sequence[tuple[str, bool]]) -> Table:
    """Return an empty table in the reports' style; columns are (title, right-aligned)."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for title, is_number in columns:
        table.add_column(Text(title), justify="right" if is_number else "left", no_wrap=is_number)
    return table


def _headline(report: BuildReport) -> Text:
    text = Text(printable(report.target), style="bold cyan")
    if report.is_emulated:
        text.append(" (emulated)", style="yellow")
    text.append(f": {wording.result(report)}, ", style="bold")
    statuses = {verdict.status for verdict in report.verdicts}
    worst = next((s for s in ("missed", "not measured", "passed") if s in statuses), None)
    return text.append(wording.outcome(report), style=_MARKS[worst][1] if worst else "dim")


def _part(console: Console, title: str, *content: Table | Text) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    for item in content:
        console.print(Padding(item, (0, 0, 0, 2), expand=False))


def _stages(report: BuildReport) -> Table:
    found = rows.stage_rows(report)
    has_macs = any(row.macs for row in found)
    columns = [("stage", False), (report.metric or "accuracy", True), ("change", True)]
    columns += [("size", True), ("size change", False)]
    columns += [("MACs", True)] if has_macs else []
    table = grid([(printable(title), right) for title, right in (*columns, ("time", True))])
    for row in found:
        cells = [
            Text(row.label, style="dim" if row.is_cached else ""),
            Text(row.accuracy or "-"),
            Text(row.change),
            Text(row.size or "-"),
            Text(row.shrunk, style="dim"),
        ]
        cells += [Text(row.macs or "-")] if has_macs else []
        table.add_row(*cells, Text(row.time or "-", style="dim" if row.is_cached else ""))
    return table


def _engines(report: BuildReport, *, ascii_only: bool) -> Table:
    speed = "instructions\n(emulated)" if report.is_emulated else "latency\np50"
    table = grid(
        [
            ("", False),
            ("engine", False),
            ("precision", False),
            (f"{printable(report.metric) or 'accuracy'}\non device", True),
            ("parity,\nsame top-1", False),
            (speed, True),
            ("size", True),
        ]
    )
    for row in rows.engine_rows(report):
        mark, style = _ROLES[row.role]
        cells = (
            _ASCII_MARKS.get(mark, mark) if ascii_only else mark,
            row.engine,
            row.precision,
            row.accuracy.partition(" ")[0] or "-",
            row.parity.removesuffix(" top-1") or "-",
            row.speed.removesuffix(" instructions (emulated)") or "-",
            row.size,
        )
        table.add_row(*[Text(cell) for cell in cells], style=style)
    return table


def _steps(engine: EngineReport, report: BuildReport) -> Table:
    cost, speed = ("time", "GOP/s")
    if report.is_emulated:
        cost, speed = ("instructions\n(emulated)", "MAC per\ninstruction")
    columns = [("share", True), (cost, True), (speed, True), ("kernel", False)]
    table = grid([*columns, ("ONNX nodes", False)])
    for row in rows.step_rows(engine, report):
        cells = (row.share, row.cost or "-", row.speed, row.kernel, row.nodes or row.step)
        table.add_row(*[Text(cell) for cell in cells])
    return table


def _engine_notes(report: BuildReport) -> list[Text]:
    notes = [Text(rows.selection_line(report))]
    for row in rows.engine_rows(report):
        if row.reason:
            notes.append(Text(f"{row.engine} is disqualified: {row.reason}", style="yellow"))
        notes += [Text(f"{row.engine}: {note}", style="dim") for note in row.notes]
        if row.tail:
            notes.append(Text(f"{row.engine}: {row.tail}", style="dim"))
    return [*notes, Text(rows.basis_line(report), style="dim")]


def _verdicts(report: BuildReport, *, ascii_only: bool) -> Table:
    columns = [("", False), ("budget", False), ("found", True), ("limit", False), ("", False)]
    table = grid(columns)
    for row in rows.verdict_rows(report):
        mark, style = _MARKS[row.status]
        shown = _ASCII_MARKS[mark] if ascii_only else mark
        status = row.status if not row.reason else f"{row.status}: {row.reason}"
        cells = (shown, row.title, row.found or "-", row.limit, status)
        table.add_row(*[Text(cell) for cell in cells], style=style)
    return table
