"""Numbers as text: the one place that decides digits and units for every report.

Three significant digits are kept of what is measured, four decimals of fractions: one image of
ten thousand shows. A minus sign is a hyphen, so that figures can be copied into a program.
"""

from __future__ import annotations

import math
import re

from edgekit.core.metric import Metric
from edgekit.pipeline.report.foreign import printable

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_COUNT_UNITS = ("", "k", "M", "G", "T")
_COUNTS = frozenset({"macs", "params", "flops"})


def fraction(value: float) -> str:
    """Return a fraction such as an accuracy: `0.9130`."""
    return f"{value:.4f}"


def change(value: float) -> str:
    """Return a signed difference of fractions: `-0.0042`, or `0` when it rounds to nothing."""
    text = f"{value:+.4f}"
    return "0" if text.strip("+-0.") == "" else text


def size(num_bytes: float) -> str:
    """Return a size in binary units: `512 B`, `84.2 KiB`, `1.25 MiB`."""
    return _scaled(num_bytes, 1024, _SIZE_UNITS)


def count(value: float) -> str:
    """Return a count in decimal units: `640`, `12.5 M`."""
    return _scaled(value, 1000, _COUNT_UNITS).rstrip()


def instructions(millions: float) -> str:
    """Return a number of executed instructions, given in millions: `48.2 M`."""
    return count(millions * 1e6)


def milliseconds(value: float) -> str:
    """Return a duration of an inference: `12.4 ms`."""
    return f"{three_digits(value)} ms"


def decibels(value: float) -> str:
    """Return a signal-to-noise ratio: `38.2 dB`."""
    return f"{value:.1f} dB"


def duration(seconds: float) -> str:
    """Return how long a stage took: `0.42 s`, `3 min 12 s`, `1 h 04 min`."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ratio(old: float, new: float) -> str:
    """Return how many times smaller or larger `new` is: `4.9x smaller`, empty when undefined."""
    if old <= 0 or new <= 0:
        return ""
    times, word = (old / new, "smaller") if new <= old else (new / old, "larger")
    return "same size" if f"{times:.2f}" == "1.00" else f"{three_digits(times)}x {word}"


def percent(value: float) -> str:
    """Return a fraction as per cent: `99.8%`."""
    text = f"{100 * value:.2f}".rstrip("0").rstrip(".")
    return f"{text}%"


def three_digits(value: float) -> str:
    """Return `value` with three significant digits or all before the point, without exponent."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    decimals = max(2 - math.floor(math.log10(abs(value))), 0)
    # Rounding may add a digit (9.996 becomes 10.00): count the digits of the rounded value.
    rounded = round(value, decimals)
    if rounded:
        decimals = max(2 - math.floor(math.log10(abs(rounded))), 0)
    return f"{rounded:.{min(decimals, 9)}f}"


def quantity(value: float, unit: str) -> str:
    """Return a value of a budget or a metric in the form that its unit asks for."""
    if not math.isfinite(value):
        return "not finite"
    if unit in {"B", "bytes"}:
        return size(value)
    if unit in {"KiB", "MiB", "GiB"}:
        return size(value * 1024 ** _SIZE_UNITS.index(unit))
    if unit == "ms":
        return milliseconds(value)
    if unit == "s":
        return duration(value)
    if unit == "dB":
        return decibels(value)
    if unit:
        return f"{three_digits(value)} {printable(unit)}"
    is_count = abs(value) > 1 and float(value).is_integer()
    return count(value) if is_count else fraction(value)


def metric(found: Metric) -> str:
    """Return the figure of a metric."""
    if found.name == "size_bytes":
        return quantity(found.value, "bytes")
    if found.name in _COUNTS:
        return count(found.value)
    return quantity(found.value, found.unit)


def typeset(text: str) -> str:
    """Return a figure with a true minus and a multiplication sign."""
    text = re.sub(r"(?<!\w)-(?=\d)", "\u2212", text)
    return re.sub(r"(?<=\d)x (?=smaller|larger)", "\u00d7 ", text)


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    if not math.isfinite(value):
        return "not finite"
    scaled, index = float(value), 0
    # 999.7 k would read "1000 k": the unit follows the rounded figure too.
    while index < len(units) - 1 and max(abs(scaled), abs(float(f"{scaled:.3g}"))) >= step:
        scaled /= step
        index += 1
    text = f"{scaled:.0f}" if index == 0 and scaled.is_integer() else three_digits(scaled)
    return f"{text} {units[index]}"
