"""The page above several reports: one card per target, linked to its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from edgekit.core.errors import InputError
from edgekit.core.files import write_atomic
from edgekit.core.report import BuildReport
from edgekit.pipeline.report import html, wording
from edgekit.pipeline.report.foreign import printable
from edgekit.pipeline.report.markup import Markup, tag

FILE = "index.html"
_OURS = b'<meta name="generator" content="edgekit">'


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


def write(output: Path, reports: Sequence[BuildReport]) -> Path | None:
    """Write `index.html` beside the bundles when there are several.

    Args:
        output: Folder that holds the bundles.
        reports: One report per bundle.

    Returns:
        The page, or None when fewer than two reports need no index.

    Raises:
        InputError: The folder holds an `index.html` that edgekit did not write.
    """
    if len(reports) < 2:
        return None
    path = output / FILE
    if path.is_file() and _OURS not in path.read_bytes():
        raise InputError(
            f"writing {path}",
            found="a page that edgekit did not write",
            hint="Move it away, or choose another folder with --output",
        )
    content = render(reports).encode()
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)
    return path


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
