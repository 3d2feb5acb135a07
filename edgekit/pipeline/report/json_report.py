"""The report for machines: every figure unrounded, in the schema of `BuildReport`."""

from __future__ import annotations

import math

import msgspec

from edgekit.core.errors import InputError, StageError
from edgekit.core.report import SCHEMA, BuildReport


def render(report: BuildReport) -> bytes:
    """Return the report as indented JSON that `parse` reads back.

    Raises:
        StageError: A metric is not a finite number, which JSON cannot hold.
    """
    for stage in report.stages:
        for metric in stage.metrics:
            if not math.isfinite(metric.value):
                raise StageError(
                    f"stage '{stage.label}' reports {metric.name}",
                    found=str(metric.value),
                    expected="a finite number",
                )
    encoded = msgspec.json.encode(report, order="deterministic")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def parse(content: bytes) -> BuildReport:
    """Read a report back.

    Raises:
        InputError: It is not a report, or one of another version.
    """
    try:
        report = msgspec.json.decode(content, type=BuildReport)
    except msgspec.MsgspecError as error:
        raise InputError("the report is damaged or of another version", found=str(error)) from error
    if report.schema != SCHEMA:
        raise InputError(
            "the report is of another version",
            found=f"schema {report.schema}",
            expected=f"schema {SCHEMA}",
            hint="Build the bundle again with this version of edgekit",
        )
    return report
