"""A measured number with its name, its unit and which direction is better."""

from __future__ import annotations

from typing import Literal

import msgspec


class Metric(msgspec.Struct, frozen=True):
    """Hold one figure of a stage or an engine.

    Args:
        name: Kebab-case for accuracy metrics (`top-1`), snake_case with the unit otherwise.
        value: The figure.
        unit: Unit as printed, empty for fractions and counts.
        better: Which direction is an improvement.
    """

    name: str
    value: float
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "none"
