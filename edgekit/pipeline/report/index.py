"""The page above several reports: one card per target, linked to its report."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from edgekit.core.report import BuildReport
from edgekit.pipeline.report import html, wording
from edgekit.pipeline.report.foreign import printable
from edgekit.pipeline.report.markup import Markup, tag


def render(reports: Sequence[BuildReport]) -> str:
    """Return a page that links the report of each target, in the given order."""
    recipes = ", ".join(dict.fromkeys(printable(report.recipe) for report in reports))
    title = f"{recipes}: {len(reports)} targets"
    return html.page(
        title,
        tag(
            "header",
            tag("p", "edgekit build reports", class_="eyebrow"),
            tag("h1", title),
        ),
        tag("ul", *[_card(report) for report in reports], class_="reports"),
    )


def _card(report: BuildReport) -> Markup:
    link = tag(
        "a",
        tag("strong", printable(report.target)),
        tag("span", wording.result(report), class_="result"),
        html.pills(report),
        # The leading "./" keeps a name such as "javascript:x" a path.
        href=f"./{quote(report.target, safe='')}/report.html",
    )
    return tag("li", link)
