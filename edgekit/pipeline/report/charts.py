"""Charts as inline SVG: one row per stage or engine, a dot or a bar, its figure at the right.

Why rows: labels of any length stay readable, and a drawing 360 units wide keeps its text legible
from a phone's width to half of a desktop page. Bars start at zero; where a range has no useful
zero (accuracies, logarithms) dots are used.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Literal

import msgspec

from edgekit.pipeline.report.foreign import printable
from edgekit.pipeline.report.markup import Markup, join, tag

_WIDTH = 360.0
_ROW = 30.0
_BOTTOM = 44.0
_CHAR = 7.4  # mean width of a character at 12 units in the widest of the system fonts
_NUM_TICKS = 4
_FAR = 4.0

Style = Literal["dots", "bars"]
Scale = Literal["linear", "log"]
Tone = Literal["plain", "strong", "faint"]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one row: a name, a value, the figure shown for it.

    Args:
        label: Name of the row.
        value: Position on the axis.
        text: The figure.
        tone: `strong` for what counts, `faint` for what is out of the race.
        until: End of a whisker, such as p90 behind p50.
    """

    label: str
    value: float
    text: str
    tone: Tone = "plain"
    until: float | None = None


class Limit(msgspec.Struct, frozen=True):
    """Hold a budget drawn as a line; one far above all bars is only named, at the right."""

    value: float
    text: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a chart.

    Args:
        name: Distinct on the page; becomes part of ids.
        title: What is shown.
        description: The same for those who cannot see it.
        axis: Quantity and unit along the axis.
        marks: The rows, at least one.
        style: `dots` are connected in order, `bars` start at zero.
        scale: `log` needs positive values and dots.
        base: Ratio of a unit to the next, in which ticks are round: 1000, or 1024 for bytes.
        limit: A budget.
        tick: How values of the axis are written.
        top: Largest value that makes sense, such as 1 for an accuracy.
    """

    name: str
    title: str
    description: str
    axis: str
    marks: tuple[Mark, ...]
    tick: Callable[[float], str]
    style: Style = "bars"
    scale: Scale = "linear"
    base: float = 1000.0
    limit: Limit | None = None
    top: float | None = None


class _Frame(msgspec.Struct, frozen=True):
    top: float
    bottom: float
    left: float
    right: float
    low: float
    high: float
    is_log: bool

    def x(self, value: float) -> float:
        """Return the place of a value on the axis."""
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.left + (at - low) / (high - low) * (self.right - self.left)

    def y(self, index: int) -> float:
        """Return the middle of a row."""
        return self.top + _ROW * (index + 0.5)


def draw(chart: Chart) -> Markup:
    """Return a chart as an `svg` element with a title and a description."""
    ticks = _ticks(chart)
    labels = max(len(_short(mark.label)) for mark in chart.marks)
    figures = max(len(mark.text) for mark in chart.marks)
    top = 26.0 if chart.limit is not None else 6.0
    frame = _Frame(
        top=top,
        bottom=top + _ROW * len(chart.marks),
        left=labels * _CHAR + 14,
        right=_WIDTH - figures * _CHAR - 16,
        low=ticks[0],
        high=ticks[-1],
        is_log=chart.scale == "log",
    )
    title, description = f"{chart.name}-title", f"{chart.name}-description"
    return tag(
        "svg",
        tag("title", chart.title, id=title),
        tag("desc", chart.description, id=description),
        _axis(chart, frame, ticks),
        _path(chart, frame),
        *[_row(chart, frame, index) for index in range(len(chart.marks))],
        _limit(chart, frame),
        viewBox=f"0 0 {_WIDTH:.0f} {frame.bottom + _BOTTOM:.0f}",
        role="img",
        aria_labelledby=f"{title} {description}",
    )


def is_far(chart: Chart) -> bool:
    """Tell whether a chart's limit would leave no room for its bars."""
    highest = max(mark.until or mark.value for mark in chart.marks)
    return chart.limit is not None and chart.style == "bars" and chart.limit.value > _FAR * highest


def nice_ticks(low: float, high: float, num: int) -> tuple[float, ...]:
    """Return about `num` round values, the first at or below `low`, the last at or above `high`."""
    step = _nice((high - low) / max(num - 1, 1))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def log_ticks(low: float, high: float, base: float) -> tuple[float, ...]:
    """Return ticks around a positive range: 1, 10, 100 of each unit, with 3, 30, 300 if few.

    Args:
        low: Least value.
        high: Largest value.
        base: Ratio of a unit to the next, 1000 or 1024.
    """
    for steps in ((1, 3, 10, 30, 100, 300), (1, 10, 100), (1,)):
        ticks = sorted(step * base**power for power in range(-4, 8) for step in steps)
        first = max(bisect.bisect_right(ticks, low) - 1, 0)
        last = max(bisect.bisect_left(ticks, high), first + 1)
        if last - first <= _NUM_TICKS:
            break
    return tuple(ticks[first : last + 1])


def _ticks(chart: Chart) -> tuple[float, ...]:
    values = [mark.value for mark in chart.marks]
    values += [mark.until for mark in chart.marks if mark.until is not None]
    values += [chart.limit.value] if chart.limit is not None and not is_far(chart) else []
    if chart.scale == "log":
        return log_ticks(min(values), max(values), chart.base)
    if chart.style == "bars":
        # Round in the unit that the labels use: 50 KiB, not 50000 bytes.
        high = max(*values, 1e-9)
        unit = chart.base ** math.floor(math.log(high, chart.base))
        return tuple(unit * tick for tick in nice_ticks(0.0, high / unit, _NUM_TICKS))
    margin = max((max(values) - min(values)) * 0.1, abs(max(values)) * 1e-3, 1e-6)
    ticks = nice_ticks(min(values) - margin, max(values) + margin, _NUM_TICKS)
    if chart.top is not None and max(values) <= chart.top < ticks[-1]:
        inside = tuple(value for value in ticks if value < chart.top)
        return (*inside, chart.top) if inside else ticks
    return ticks


def _nice(step: float) -> float:
    scale = 10.0 ** math.floor(math.log10(step))
    return scale * next(
        nice for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if step <= nice * scale * 1.0001
    )


def _axis(chart: Chart, frame: _Frame, ticks: tuple[float, ...]) -> Markup:
    parts = []
    free = 0.0
    for value in ticks:
        x = frame.x(value)
        parts.append(tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom + 4, class_="grid"))
        text = chart.tick(value)
        half = len(text) * _CHAR * 0.45
        # A label that would touch the one before it is left out; its line stays.
        if x - half >= free:
            parts.append(tag("text", text, x=x, y=frame.bottom + 18, class_="tick"))
            free = x + half + 6
    middle = (frame.left + frame.right) / 2
    axis = _short(chart.axis, 36) + (", log scale" if frame.is_log else "")
    parts.append(tag("text", axis, x=middle, y=frame.bottom + 37, class_="axis"))
    return join(*parts)


def _path(chart: Chart, frame: _Frame) -> Markup | None:
    if chart.style != "dots" or len(chart.marks) < 2:
        return None
    points = [f"{frame.x(mark.value):.1f} {frame.y(i):.1f}" for i, mark in enumerate(chart.marks)]
    return tag("path", d=f"M{'L'.join(points)}", class_="thread")


def _row(chart: Chart, frame: _Frame, index: int) -> Markup:
    mark = chart.marks[index]
    y, x = frame.y(index), frame.x(mark.value)
    shape = [
        tag("circle", cx=x, cy=y, r=5.5 if mark.tone == "strong" else 4.5, class_="dot")
        if chart.style == "dots"
        else tag(
            "rect",
            x=frame.left,
            y=y - 8,
            width=max(x - frame.left, 1.5),
            height=16,
            rx=2,
            class_="bar",
        )
    ]
    if mark.until is not None:
        shape += _whisker(x, frame.x(mark.until), y)
    return tag(
        "g",
        tag("title", f"{mark.label}: {mark.text}"),
        tag("text", _short(mark.label), x=0, y=y + 4, class_="label"),
        *shape,
        tag("text", mark.text, x=_WIDTH, y=y + 4, class_="figure"),
        class_=f"row {mark.tone}",
    )


def _whisker(start: float, end: float, y: float) -> list[Markup]:
    return [
        tag("line", x1=start, x2=end, y1=y, y2=y, class_="whisker"),
        tag("line", x1=end, x2=end, y1=y - 4, y2=y + 4, class_="whisker"),
    ]


def _limit(chart: Chart, frame: _Frame) -> Markup | None:
    if chart.limit is None:
        return None
    if is_far(chart):
        text = f"{chart.limit.text} \u2192"
        return tag("text", text, x=_WIDTH, y=frame.top - 12, class_="limit-text far")
    x = frame.x(chart.limit.value)
    # The text stays inside the drawing wherever the line is.
    half = len(chart.limit.text) * _CHAR / 2
    middle = min(max(x, half), _WIDTH - half)
    return tag(
        "g",
        tag("line", x1=x, x2=x, y1=frame.top - 6, y2=frame.bottom, class_="limit"),
        tag("text", chart.limit.text, x=middle, y=frame.top - 12, class_="limit-text"),
    )


def _short(label: str, length: int = 16) -> str:
    text = printable(label)
    return text if len(text) <= length else f"{text[: length - 1]}…"
