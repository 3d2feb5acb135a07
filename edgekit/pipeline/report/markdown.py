"""The report as Markdown, for comments of a CI system and for reading as a text file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgekit.core.report import BuildReport
from edgekit.pipeline.report import rows, wording
from edgekit.pipeline.report.foreign import printable

_MARKS = {"passed": "✅", "missed": "❌", "not measured": "⚪"}
_SPECIAL = re.compile(r"([\\`*<>\[\]|~#&])|((?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def render(report: BuildReport) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    parts = [
        f"## {escape(wording.headline(report))}",
        _caption(report),
        section("Budgets", _budgets(report)),
        section(
            "Stages",
            table(
                ("Stage", f"{report.metric or 'accuracy'}", "Change", "Size", "MACs", "Time"),
                [
                    (row.label, row.accuracy, row.change, row.size, row.macs, row.time)
                    for row in rows.stage_rows(report)
                ],
                right=(1, 2, 3, 4, 5),
            ),
        ),
        section("Engines", _engines(report)),
        section("Host and device disagree", bullets(rows.mismatch_lines(report))),
        section("Warnings", bullets(rows.warning_lines(report))),
        _closing(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], body: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a table; every cell is escaped, columns in `right` are aligned to the right."""
    lines = [_line(escape(cell) for cell in head)]
    lines.append(_line("---:" if index in right else "---" for index in range(len(head))))
    lines += [_line(escape(cell) or "-" for cell in row) for row in body]
    return "\n".join(lines) if len(lines) > 2 else ""


def section(title: str, body: str) -> str:
    """Return a titled part, or nothing when its body is empty."""
    return f"### {title}\n\n{body}" if body else ""


def bullets(lines: Sequence[str]) -> str:
    """Return a list with one escaped entry per line."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is: no markup, no HTML, one line."""
    return _SPECIAL.sub(r"\\\1\2", printable(text)).strip()


def _caption(report: BuildReport) -> str:
    device = rows.device_line(report)
    text = f"Recipe **{escape(report.recipe)}** for target **{escape(report.target)}**"
    text += f", on {escape(device)}" if device else ""
    return f"{text}."


def _budgets(report: BuildReport) -> str:
    found = rows.verdict_rows(report)
    head = ["Verdict", "Budget", "Found", "Limit"]
    body = [
        [f"{_MARKS[row.status]} {row.status}", row.title, row.found, row.limit] for row in found
    ]
    if any(row.reason for row in found):
        head.append("Why")
        body = [[*cells, row.reason] for cells, row in zip(body, found, strict=True)]
    return table(head, body, right=(2,))


def _engines(report: BuildReport) -> str:
    speed = "Instructions (emulated)" if report.is_emulated else "Latency p50"
    body = [
        (
            f"{row.engine} ({row.role})" if row.role else row.engine,
            row.precision,
            row.accuracy,
            row.parity,
            row.speed.removesuffix(" instructions (emulated)"),
            row.size,
        )
        for row in rows.engine_rows(report)
    ]
    head = ("Engine", "Precision", "On the device", "Parity", speed, "Size")
    text = table(head, body, right=(4, 5))
    reasons = [
        f"{r.engine} is disqualified: {r.reason}" for r in rows.engine_rows(report) if r.reason
    ]
    reasons += [f"{r.engine}: {note}" for r in rows.engine_rows(report) for note in r.notes]
    closing = escape(rows.selection_line(report))
    return "\n\n".join(part for part in (text, bullets(reasons), closing) if part)


def _closing(report: BuildReport) -> str:
    return f"Bundle: `{printable(report.output).replace('`', '')}`" if report.output else ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
