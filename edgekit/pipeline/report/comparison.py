"""Two bundles side by side: on a terminal, as Markdown, as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from edgekit.pipeline.report import figures, markdown, terminal, wording
from edgekit.pipeline.report.foreign import printable

if TYPE_CHECKING:
    from edgekit.pipeline.compare import Comparison, Side
    from edgekit.pipeline.judgement import Row

_STYLES = {
    "better": "green",
    "worse": "bold red",
    "equal": "dim",
    "changed": "yellow",
    "not comparable": "dim italic",
}
_MAX_FIELDS = 12


def render_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison."""
    console.print()
    console.print(Text(title(comparison), style="bold"))
    for line in sides(comparison):
        console.print(Padding(Text(line, style="dim"), (0, 0, 0, 2), expand=False))
    for group, found in itertools.groupby(comparison.rows, key=lambda row: row.group):
        console.print()
        console.print(Text(printable(group).capitalize(), style="bold"))
        table = terminal.grid(
            [("", False), ("old", True), ("new", True), ("difference", True), ("", False)]
        )
        for row in found:
            cells = (printable(row.name), *values(row), verdict(row))
            table.add_row(*[Text(cell) for cell in cells], style=_STYLES[row.judgement])
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
    console.print()
    for line in lineage_lines(comparison):
        console.print(Text(line))


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as GitHub-flavoured Markdown."""
    parts = [f"## {markdown.escape(title(comparison))}", markdown.bullets(sides(comparison))]
    for group, found in itertools.groupby(comparison.rows, key=lambda row: row.group):
        body = [(printable(row.name), *values(row), verdict(row)) for row in found]
        head = ("", "Old", "New", "Difference", "Verdict")
        heading = markdown.escape(group).capitalize()
        parts.append(markdown.section(heading, markdown.table(head, body, right=(1, 2, 3))))
    lines = markdown.bullets(lineage_lines(comparison))
    return "\n\n".join([*parts, markdown.section("Where they part", lines)]) + "\n"


def comparison_json(comparison: Comparison) -> bytes:
    """Return a comparison as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"


def title(comparison: Comparison) -> str:
    """Return what came of a comparison in one line."""
    num = dict.fromkeys(("better", "worse"), 0)
    for row in comparison.rows:
        if row.judgement in num:
            num[row.judgement] += 1
    found = f"{num['better']} better, {num['worse']} worse"
    if not comparison.is_same_build:
        return found
    is_quiet = not any(num.values())
    return "The same build: equal manifests" + ("" if is_quiet else f", measured again: {found}")


def sides(comparison: Comparison) -> tuple[str, str]:
    """Return a line for each bundle."""
    return _side("old", comparison.old), _side("new", comparison.new)


def values(row: Row) -> tuple[str, str, str]:
    """Return old, new and difference of a row as text; `-` where there is none."""
    return _value(row.old, row), _value(row.new, row), _delta(row) or "-"


def verdict(row: Row) -> str:
    """Return the judgement of a row with its reason."""
    return f"{row.judgement}: {printable(row.reason)}" if row.reason else row.judgement


def lineage_lines(comparison: Comparison) -> tuple[str, ...]:
    """Say where the two builds part."""
    found = comparison.lineage
    if found is None:
        return ("Both came about in the same way: every stage has an equal key and payload.",)
    stage = printable(found.stage)
    if found.kind == "not reproducible":
        return (f"Stage '{stage}' is not reproducible: an equal key left another payload.",)
    if found.kind != "input":
        return (f"Stage '{stage}' was {found.kind}.",)
    shown = [
        f"{printable(field.name)}: {printable(field.old)} -> {printable(field.new)}"
        for field in found.fields[:_MAX_FIELDS]
    ]
    more = len(found.fields) - len(shown)
    return (
        f"They part at stage '{stage}', in:",
        *shown,
        *([f"and {more} more"] if more > 0 else []),
    )


def _side(name: str, side: Side) -> str:
    return ", ".join(_parts(name, side))


def _parts(name: str, side: Side) -> Iterator[str]:
    emulated = " (emulated)" if side.is_emulated else ""
    yield f"{name}: {printable(side.recipe)} for {printable(side.target)}{emulated}"
    if side.device:
        yield f"on {side.device}"
    if side.created:
        yield f"built {wording.moment(side.created)}"
    yield f"manifest {side.manifest_digest[:12]}"


def _value(value: float | str | None, row: Row) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    return figures.quantity(value, row.unit)


def _delta(row: Row) -> str:
    if row.delta is None or not isinstance(row.old, (int, float)):
        return ""
    if row.delta == 0:
        return "0"
    # Fractions differ by digits, everything else by parts of a hundred.
    if not row.unit and abs(row.old) <= 1:
        return figures.change(row.delta)
    return f"{100 * row.delta / row.old:+.1f}%" if row.old else ""
