"""The report as one HTML page: no script, no request, readable on a phone and in the dark."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

import msgspec

from edgekit.core.report import BuildReport, Verdict
from edgekit.pipeline.report import charts, figures, gallery, rows, tiles, wording
from edgekit.pipeline.report.figures import typeset
from edgekit.pipeline.report.foreign import printable
from edgekit.pipeline.report.markup import Child, Markup, join, tag

MARKS = {"passed": "✓", "missed": "✗", "not measured": "○"}
NOTHING = "\u2013"
GENERATOR = tag("meta", name="generator", content="edgekit")
"""Marks a page as ours: only such a page is ever written over."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(report: BuildReport) -> str:
    """Return the report as a self-contained page."""
    return page(
        wording.headline(report),
        _hero(report),
        tiles.render(report),
        _section("Budgets", _verdicts(report)),
        _section("Warnings", _list(rows.warning_lines(report), class_="warnings")),
        _section(
            "Stages", _charts(gallery.stage_charts(report)), _stages(report), _stage_notes(report)
        ),
        _section(
            "Engine race",
            _charts(gallery.engine_charts(report)),
            _engines(report),
            _race_notes(report),
        ),
        _section("Host and device disagree", _list(rows.mismatch_lines(report))),
        _footer(report),
    )


def page(title: str, *content: Child) -> str:
    """Return a whole document in the reports' style."""
    style = importlib.resources.files("edgekit.pipeline.report").joinpath("page.css")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        GENERATOR,
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Markup(style.read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *content)), lang='en')}\n"


def table(
    caption: str, head: Sequence[str], body: Sequence[Sequence[Child]], numbers: Sequence[int] = ()
) -> Markup | None:
    """Return a table that scrolls sideways where the page is narrow; None without rows."""
    if not body:
        return None
    kinds = ["number" if index in numbers else None for index in range(len(head))]
    titles = [tag("th", t, scope="col", class_=kind) for t, kind in zip(head, kinds, strict=True)]
    lines = []
    for row in body:
        first = tag("th", row[0], scope="row", class_=kinds[0])
        rest = zip(row[1:], kinds[1:], strict=True)
        lines.append(tag("tr", first, *[tag("td", cell, class_=kind) for cell, kind in rest]))
    inner = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *lines),
    )
    return tag("div", inner, class_="scroll", role="region", aria_label=caption, tabindex="0")


def status_of(report: BuildReport) -> str:
    """Return the worst verdict of a report as a class name: `missed`, `open`, `passed`, `none`."""
    statuses = {verdict.status for verdict in report.verdicts}
    if "missed" in statuses:
        return "missed"
    if "not measured" in statuses:
        return "open"
    return "passed" if statuses else "none"


def pills(report: BuildReport) -> Markup:
    """Return the outcome as a coloured pill, with another one when the device was emulated."""
    status = status_of(report)
    mark = {"missed": "✗", "open": "○", "passed": "✓", "none": NOTHING}[status]
    text = join(tag("span", mark, aria_hidden="true"), f" {wording.outcome(report)}")
    found = [tag("span", text, class_=f"pill {status}")]
    if report.is_emulated:
        found.append(tag("span", "emulated device: no timings", class_="pill open"))
    return tag("span", *found, class_="pills")


def _hero(report: BuildReport) -> Markup:
    return tag(
        "header",
        tag("p", "edgekit build report", tag("span", printable(report.recipe)), class_="eyebrow"),
        tag(
            "h1",
            tag("span", printable(report.target), class_="target"),
            " ",
            tag("span", wording.result(report), class_="result"),
        ),
        pills(report),
    )


def _section(title: str, *content: Child) -> Markup | None:
    kept = [part for part in content if part]
    return tag("section", tag("h2", title), *kept) if kept else None


def _list(lines: Sequence[str], class_: str | None = None) -> Markup | None:
    return tag("ul", *[tag("li", line) for line in lines], class_=class_) if lines else None


def _charts(drawn: Sequence[charts.Chart]) -> Markup | None:
    cards = [
        tag("figure", tag("figcaption", chart.title), charts.draw(chart), _fallback(chart))
        for chart in drawn
    ]
    return tag("div", *cards, class_="charts") if cards else None


def _fallback(chart: charts.Chart) -> Markup:
    body = [(printable(mark.label), typeset(mark.text)) for mark in chart.marks]
    if chart.limit is not None:
        body.append(("budget", chart.limit.text.removeprefix("budget ")))
    values = table(chart.title, ("", chart.axis), body, numbers=(1,))
    return tag("details", tag("summary", "Figures"), values)


def _verdicts(report: BuildReport) -> Markup | None:
    body: list[Sequence[Child]] = []
    for verdict, row in zip(report.verdicts, rows.verdict_rows(report), strict=True):
        state = "open" if row.status == "not measured" else row.status
        mark = tag("span", MARKS[row.status], class_=f"mark {state}", aria_hidden="true")
        words = row.status if not row.reason else f"{row.status}: {row.reason}"
        body.append(
            (
                tag("span", mark, " ", row.title, class_="keep" if len(row.title) < 24 else None),
                typeset(row.found) or NOTHING,
                _meter(verdict, state),
                tag("span", row.limit, class_="keep"),
                tag("div", words, class_="words"),
            )
        )
    return table("Budgets", ("Budget", "Found", "", "Limit", "Verdict"), body, numbers=(1,))


def _meter(verdict: Verdict, state: str) -> Markup | None:
    """Return how much of an upper limit is used up; a picture of the figures beside it."""
    if verdict.found is None or state == "open" or verdict.name.endswith(".min"):
        return None
    used = min(max(verdict.found / verdict.limit, 0.0), 1.0) if verdict.limit > 0 else 0.0
    fill = tag("span", style=f"width:{100 * used:.0f}%")
    return tag("span", fill, class_=f"meter {state}", aria_hidden="true")


def _stages(report: BuildReport) -> Markup | None:
    found = rows.stage_rows(report)
    # Columns that no stage fills would only make the table wide.
    columns: list[tuple[str, list[str]]] = [
        ("Stage", [row.label for row in found]),
        (report.metric or "accuracy", [row.accuracy for row in found]),
        ("Change", [typeset(row.change) for row in found]),
        ("Size", [row.size for row in found]),
        ("Size change", [typeset(row.shrunk) for row in found]),
        ("MACs", [row.macs for row in found]),
        ("Parameters", [row.params for row in found]),
        ("Time", [_time(row) for row in found]),
    ]
    kept = [column for column in columns if any(column[1])]
    body = list(zip(*[cells for _, cells in kept], strict=True)) if found else []
    numbers = range(1, len(kept))
    return table("Stages in the order they ran", [title for title, _ in kept], body, numbers)


def _time(row: rows.StageRow) -> Markup | str:
    return tag("span", "cached", class_="quiet") if row.is_cached else row.time


def _stage_notes(report: BuildReport) -> Markup | None:
    notes = []
    for stage, row in zip(report.stages, rows.stage_rows(report), strict=True):
        if not row.others and not stage.details:
            continue
        others = table(f"More figures of {row.label}", ("Figure", "Value"), row.others, (1,))
        encoded = msgspec.json.encode(stage.details, order="sorted")
        text = msgspec.json.format(encoded, indent=2).decode()
        details = tag("pre", _lines(text), tabindex="0") if stage.details else None
        notes.append(tag("details", tag("summary", f"More about {row.label}"), others, details))
    return tag("div", *notes, class_="notes") if notes else None


def _lines(text: str) -> Markup:
    return Markup("\n".join(join(line) for line in text.split("\n")))


def _engines(report: BuildReport) -> Markup | None:
    body: list[Sequence[Child]] = []
    for row in rows.engine_rows(report):
        role = tag("span", row.role, class_=f"role {row.role}") if row.role else None
        speed = row.speed.removesuffix(" instructions (emulated)") or "not measured"
        shown = join(speed, tag("small", row.tail) if row.tail else None)
        body.append(
            (
                join(row.engine, " ", role),
                row.precision or NOTHING,
                row.accuracy or "not measured",
                tag("span", row.parity or NOTHING, class_="keep"),
                shown,
                row.memory,
                row.size,
            )
        )
    head = ["Engine", "Precision", f"{report.metric or 'Accuracy'} on the device", "Parity"]
    head += ["Instructions, emulated" if report.is_emulated else "Latency p50", "Peak memory"]
    if not any(row[5] for row in body):
        head, body = head[:-1], [(*row[:5], row[6]) for row in body]
    return table("Engines", [*head, "Size"], body, range(4, len(head) + 1))


def _race_notes(report: BuildReport) -> Markup | None:
    if not report.engines:
        return None
    reasons = [
        join(tag("strong", f"{row.engine} is disqualified: "), row.reason)
        for row in rows.engine_rows(report)
        if row.reason
    ]
    notes = [f" {row.engine}: {note}." for row in rows.engine_rows(report) for note in row.notes]
    found = (rows.selection_line(report), " ", rows.basis_line(report), *notes)
    return join(_list(reasons, class_="reasons"), tag("p", *found, class_="quiet"))


def _footer(report: BuildReport) -> Markup:
    built = f"Built in {figures.duration(report.wall_s)}" if report.wall_s else ""
    when = f"on {wording.moment(report.created)}" if report.created else ""
    text = f"{printable(report.recipe)} for {printable(report.target)}"
    return tag(
        "footer", tag("p", ". ".join(part for part in (text, f"{built} {when}".strip()) if part))
    )
