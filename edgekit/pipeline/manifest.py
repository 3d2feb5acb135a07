"""What the two index files of a bundle hold: `manifest.json` and `measurements.json`.

Why two: the manifest is reproducible (equal input gives equal bytes), timings never are. The
measurements are sealed with their own digest and name the manifest they belong to. Digests find
accidents and careless edits; they are no signature.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from edgekit.core.canonical import sha256_json
from edgekit.core.model import TensorSpec
from edgekit.core.report import BuildReport, DeviceReport, EngineReport, Mismatch, Verdict

SCHEMA = 1
MANIFEST = "manifest.json"
MEASUREMENTS = "measurements.json"
REPORTS = ("report.html", "report.json", "report.md")
INDEX_FILES = (MANIFEST, MEASUREMENTS)
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding bytes of any origin may raise."""
MAX_INDEX_BYTES = 64 * 2**20
"""Largest index file that is read: a hostile one must not fill the memory."""


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describe one file of a bundle."""

    sha256: str
    size: int
    executable: bool = False


class Lineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Name one stage that led to the bundle.

    Args:
        stage: Label of the stage.
        key: Its key in the store.
        payload: Digest of what it left; must not depend on the time of day.
        fields: What the key was made of, by name, so that two builds can be compared.
    """

    stage: str
    key: str
    payload: str
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a bundle: what it is, where it comes from and which files it has."""

    schema: int
    edgekit: str
    name: str
    recipe: dict[str, Any]
    target: dict[str, Any]
    preprocess: list[Any]
    labels: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metric: str
    lineage: tuple[Lineage, ...]
    tools: dict[str, str]
    files: dict[str, FileEntry]


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was measured on a device, and which engine was selected for it."""

    schema: int
    created: str
    recipe: str
    target: str
    metric: str
    selected: str | None
    selected_by: Literal["latency", "order"] | None
    device: DeviceReport | None
    engines: tuple[EngineReport, ...]
    verdicts: tuple[Verdict, ...]
    mismatches: tuple[Mismatch, ...]
    files: dict[str, FileEntry]


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold measurements with their digest and that of the manifest they belong to.

    The body is kept as plain data: its digest covers every field, also those of a later version.
    """

    body: dict[str, Any]
    sha256: str
    manifest: str

    def measurements(self) -> Measurements:
        """Return the body; raises one of `DECODE_ERRORS` when it does not fit."""
        return msgspec.convert(self.body, Measurements)


def measurements_of(report: BuildReport, files: dict[str, FileEntry]) -> Measurements:
    """Return the measured part of a report; `files` are the rendered reports."""
    return Measurements(
        schema=SCHEMA,
        created=report.created,
        recipe=report.recipe,
        target=report.target,
        metric=report.metric,
        selected=report.selected,
        selected_by=report.selected_by,
        device=report.device,
        engines=report.engines,
        verdicts=report.verdicts,
        mismatches=report.mismatches,
        files=files,
    )


def seal(body: Measurements, manifest: str) -> Sealed:
    """Seal measurements to the manifest with digest `manifest`."""
    return Sealed(body=msgspec.to_builtins(body), sha256=sha256_json(body), manifest=manifest)


def to_json(value: Manifest | Sealed) -> bytes:
    """Return the one form in which an index file is written."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"


def is_portable_name(name: str) -> bool:
    """Tell whether a relative path stays inside its folder on every system."""
    parts = name.split("/")
    return (
        all(part not in {"", ".", ".."} for part in parts)
        and "\\" not in name
        and ":" not in name
        and not any(unicodedata.category(char) in {"Cc", "Cs"} for char in name)
        and PurePosixPath(name).as_posix() == name
    )
