from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.metric import Metric
from edgekit.pipeline.report import figures


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (86_016, "84.0 KiB"),
        (2**20 - 1, "1024 KiB"),
        (2**20, "1.00 MiB"),
        (5 * 2**40, "5.00 TiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_sizes_are_in_binary_units(num_bytes: int, text: str) -> None:
    assert figures.size(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (640, "640"), (999.7, "1.00 k"), (12_501_632, "12.5 M"), (1.2e9, "1.20 G")],
)
def test_counts_are_in_decimal_units(value: float, text: str) -> None:
    assert figures.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0631, "0.0631"),
        (9.996, "10.0"),
        (12.44, "12.4"),
        (1240.2, "1240"),
        (-0.5, "-0.500"),
        (math.nan, "not finite"),
    ],
)
def test_measured_numbers_keep_three_digits(value: float, text: str) -> None:
    assert figures.three_digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.913, "0.9130"), (1.0, "1.0000"), (0.0, "0.0000")],
)
def test_fractions_have_four_decimals(value: float, text: str) -> None:
    assert figures.fraction(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0042, "-0.0042"), (0.001, "+0.0010"), (0.0, "0"), (-0.00001, "0")],
)
def test_changes_carry_a_sign_unless_they_round_to_nothing(value: float, text: str) -> None:
    assert figures.change(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.42 s"), (12.34, "12.3 s"), (59.97, "1 min 00 s"), (3840, "1 h 04 min")],
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


def test_ratios_say_which_way() -> None:
    assert figures.ratio(490, 100) == "4.90x smaller"
    assert figures.ratio(100, 106) == "1.06x larger"
    assert figures.ratio(100, 100) == "same size"
    assert figures.ratio(0, 100) == ""


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9583, "", "0.9583"),
        (12.0, "", "12"),
        (1.0, "MiB", "1.00 MiB"),
        (0.08, "MiB", "81.9 KiB"),
        (20.0, "ms", "20.0 ms"),
        (31.25, "dB", "31.2 dB"),
        (3.0, "W", "3.00 W"),
        (math.inf, "ms", "not finite"),
    ],
)
def test_a_unit_decides_how_a_quantity_is_written(value: float, unit: str, text: str) -> None:
    assert figures.quantity(value, unit) == text


def test_known_metrics_are_written_by_name() -> None:
    assert figures.metric(Metric("size_bytes", 2048)) == "2.00 KiB"
    assert figures.metric(Metric("macs", 6_122_410)) == "6.12 M"
    assert figures.metric(Metric("top-1", 0.913)) == "0.9130"


@given(st.floats(1e-6, 1e12))
def test_three_digits_are_within_half_a_per_cent(value: float) -> None:
    # Three digits of 1.005 are 1.00 or 1.01: half a unit of the last digit.
    assert abs(float(figures.three_digits(value)) - value) <= 0.005 * value


@given(st.floats(0, 1e15), st.floats(0, 1e15))
def test_sizes_never_claim_the_wrong_order(one: float, other: float) -> None:
    units = ["B", "KiB", "MiB", "GiB", "TiB"]

    def read(text: str) -> float:
        number, unit = text.split(" ")
        return float(number) * 1024.0 ** units.index(unit)

    small, large = sorted((one, other))
    assert read(figures.size(small)) <= read(figures.size(large)) * 1.01


def test_typeset_figures_have_a_true_minus_and_times_sign() -> None:
    assert figures.typeset("-0.0042") == "\u22120.0042"
    assert figures.typeset("4.90x smaller") == "4.90\u00d7 smaller"
    assert figures.typeset("x86-64") == "x86-64"
