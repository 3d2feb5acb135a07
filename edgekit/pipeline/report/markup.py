"""HTML and SVG elements as text: everything is escaped unless it was built here."""

from __future__ import annotations

import html

from edgekit.pipeline.report.foreign import printable

_VOID = frozenset({"meta", "br", "line", "path", "rect", "circle"})


class Markup(str):
    """Hold text that is already HTML."""

    __slots__ = ()


Child = str | None
"""Content of an element: `Markup` as it is, other text escaped, None left out."""


def tag(element: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        element: Its name.
        children: Its content.
        attributes: `class_` gives `class`, `aria_label` gives `aria-label`; None leaves one out.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in _VOID and not children:
        return Markup(
            f"<{element}{shown}>" if element in {"meta", "br"} else f"<{element}{shown}/>"
        )
    return Markup(f"<{element}{shown}>{join(*children)}</{element}>")


def join(*children: Child) -> Markup:
    """Return children one after the other."""
    return Markup("".join(escape(child) for child in children if child is not None))


def escape(text: str) -> Markup:
    """Return text as HTML; what is HTML already stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text)))


def _attribute(value: str | float) -> str:
    # A tenth of a pixel is finer than any screen; more digits would only lengthen the page.
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, (int, float)) else escape(value)
