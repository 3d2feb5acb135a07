"""Bundles: everything needed to run a built model, in one folder and one tar file per target.

`TARGET/` holds the compiled payload (`model.onnx`, `golden/`, `engines/`), the headers and the
example of an embeddable engine (`include/`, `example/`), the reports, `manifest.json` and
`measurements.json`. Both the folder and `TARGET.tar` are made beside their place and swapped in
when they are whole.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgekit.core.canonical import sha256_bytes, sha256_file
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.files import explain_os_errors, write_atomic
from edgekit.core.model import TensorSpec
from edgekit.core.report import BuildReport
from edgekit.pipeline.archive import write_archive
from edgekit.pipeline.lineage import not_reproducible
from edgekit.pipeline.manifest import (
    DECODE_ERRORS,
    INDEX_FILES,
    MANIFEST,
    MEASUREMENTS,
    REPORTS,
    SCHEMA,
    FileEntry,
    Lineage,
    Manifest,
    is_portable_name,
    measurements_of,
    seal,
    to_json,
)
from edgekit.pipeline.place import alone, refuse_foreign, refuse_foreign_archive, replace_folder
from edgekit.pipeline.report import html, index, json_report, markdown
from edgekit.pipeline.verify import verify

_HEADERS = ("ek_model.h", "model.h")
_EXAMPLE = "example_main.c"
_HOST_LATENCY = "host_p50_ms"
_HOST = "host/"
"""Engines built for the building machine, for comparison only: they do not ship."""


class BundleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a bundle says about itself besides its files.

    Args:
        recipe: The recipe's name.
        recipe_options: The normalised recipe; paths in it are file names only.
        target: The target as plain data.
        preprocess: Preprocessing steps as plain data, in order.
        labels: Names of the classes, by index; empty when unknown.
        inputs: Inputs of the model.
        outputs: Outputs of the model.
        metric: Name of the recipe's metric.
        lineage: The stages in order. Stages that only measure do not belong here.
        tools: Versions of the packages that made it, by distribution.
        edgekit_version: Version of edgekit.
    """

    recipe: str
    recipe_options: dict[str, Any]
    target: dict[str, Any]
    preprocess: list[Any]
    labels: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metric: str
    lineage: tuple[Lineage, ...]
    tools: dict[str, str]
    edgekit_version: str


class BundlePaths(msgspec.Struct, frozen=True, kw_only=True):
    """Tell where a bundle was written.

    Args:
        folder: The bundle's folder.
        archive: The same as a tar file.
        manifest_digest: SHA-256 of `manifest.json`.
        report: The report with the bundle's place and the new warnings in it.
        warnings: What came up while writing.
        changed: False when an equal bundle was there already and nothing was touched.
    """

    folder: Path
    archive: Path
    manifest_digest: str
    report: BuildReport
    warnings: tuple[str, ...]
    changed: bool


def write_bundle(
    report: BuildReport, payload: Path, facts: BundleFacts, output: Path
) -> BundlePaths:
    """Write `output/TARGET/` and `output/TARGET.tar`.

    An earlier bundle stays whole until the new one takes its place. When its content is equal
    (times of the build aside) nothing is touched.

    Args:
        report: The build's report.
        payload: Folder of the compiled model.
        facts: What the manifest says.
        output: Folder for bundles of all targets, made when missing.

    Raises:
        InputError: `output` is not writable, or the place is taken by something else.
        DeviceError: The disk is full.
    """
    place = output / _plain(report.target)
    archive = output / f"{place.name}.tar"
    sources = _sources(payload)
    manifest = make_manifest(facts, {name: _entry(path) for name, path in sources.items()})
    with explain_os_errors(output), alone(place):
        refuse_foreign(place)
        refuse_foreign_archive(archive)
        warnings = not_reproducible(_earlier(place), manifest)
        report = msgspec.structs.replace(report, warnings=(*report.warnings, *warnings))
        changed = not _is_equal(place, manifest, report)
        if changed:
            _write_folder(report, manifest, sources, place)
        changed |= _write_archive(place, archive)
    return BundlePaths(
        folder=place,
        archive=archive,
        manifest_digest=sha256_bytes(to_json(manifest)),
        report=msgspec.structs.replace(report, output=str(place)),
        warnings=warnings,
        changed=changed,
    )


def write_index(reports: Sequence[BuildReport], output: Path) -> Path | None:
    """Write `output/index.html`, which links the reports of several bundles.

    Returns:
        The page, or None when fewer than two bundles were written.

    Raises:
        InputError: `output` holds an `index.html` that edgekit did not write.
    """
    bundled = [report for report in reports if report.output]
    if len(bundled) < 2:
        return None
    path = output / "index.html"
    content = index.render(bundled).encode()
    with explain_os_errors(path):
        found = path.read_bytes() if path.exists() else None
        if found is not None and html.GENERATOR.encode() not in found:
            raise InputError(
                f"writing {path}",
                found="a page that edgekit did not write",
                hint="Move it away, or choose another folder with --output",
            )
        if found != content:
            write_atomic(path, content)
    return path


def make_manifest(facts: BundleFacts, files: dict[str, FileEntry]) -> Manifest:
    """Return the manifest of a bundle with these files."""
    return Manifest(
        schema=SCHEMA,
        edgekit=facts.edgekit_version,
        name=facts.recipe,
        recipe=facts.recipe_options,
        target=facts.target,
        preprocess=facts.preprocess,
        labels=facts.labels,
        inputs=facts.inputs,
        outputs=facts.outputs,
        metric=facts.metric,
        lineage=facts.lineage,
        tools=facts.tools,
        files=files,
    )


def _sources(payload: Path) -> dict[str, Path]:
    """Return the bundle's files by name, with the first engine's headers and example up front."""
    found = sorted(path for path in payload.rglob("*") if path.is_file() or path.is_symlink())
    assert not any(path.is_symlink() for path in found), "a payload holds plain files only"
    names = {path.relative_to(payload).as_posix(): path for path in found}
    sources = {name: path for name, path in names.items() if not name.startswith(_HOST)}
    extra: dict[str, Path] = {}
    for name, path in sources.items():
        if name.startswith("engines/") and path.name in _HEADERS:
            extra.setdefault(f"include/{path.name}", path)
        if name.startswith("engines/") and path.name == _EXAMPLE:
            extra.setdefault("example/main.c", path)
    taken = extra.keys() | {*INDEX_FILES, *REPORTS}
    assert not sources.keys() & taken, f"a payload may not hold {sorted(sources.keys() & taken)}"
    return sources | extra


def _entry(path: Path) -> FileEntry:
    status = path.stat()
    executable = bool(status.st_mode & 0o100)
    return FileEntry(sha256=sha256_file(path), size=status.st_size, executable=executable)


def _plain(target: str) -> str:
    if "/" in target or not is_portable_name(target) or target.startswith("."):
        raise InputError(f"target '{target}' cannot name a folder", expected="a plain name")
    return target


def _earlier(place: Path) -> Manifest | None:
    try:
        return msgspec.json.decode((place / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, *DECODE_ERRORS):
        return None


def _is_equal(place: Path, manifest: Manifest, report: BuildReport) -> bool:
    """Tell whether a whole bundle is there that says the same, the build's own times aside."""
    try:
        if (place / MANIFEST).read_bytes() != to_json(manifest) or not verify(place).ok:
            return False
        found = json_report.parse((place / "report.json").read_bytes())
    except (OSError, InputError):
        return False
    # Through the same reading as `found`: a count of 12 comes back as 12.0.
    return _timeless(found) == _timeless(json_report.parse(json_report.render(report)))


def _timeless(report: BuildReport) -> BuildReport:
    stages = tuple(
        msgspec.structs.replace(
            stage,
            status="ran",
            duration_s=None,
            created="",
            metrics=tuple(metric for metric in stage.metrics if metric.name != _HOST_LATENCY),
        )
        for stage in report.stages
    )
    return msgspec.structs.replace(report, stages=stages, output=None, created="", wall_s=0.0)


def _write_folder(
    report: BuildReport, manifest: Manifest, sources: Mapping[str, Path], place: Path
) -> None:
    staging = Path(tempfile.mkdtemp(prefix=f".{place.name}.new-", dir=place.parent))
    try:
        staging.chmod(0o755)
        for name, source in sources.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if manifest.files[name].executable else 0o644)
        _write_index(report, manifest, staging)
        found = verify(staging)
        if not found.ok:
            first = found.problems[0]
            raise EdgekitError(
                f"writing {place}",
                found=f"{first.path} {first.kind} after it was written",
                hint="Check the disk, then build again",
            )
        replace_folder(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_index(report: BuildReport, manifest: Manifest, folder: Path) -> None:
    # Where the bundle was written is not part of it: it will be copied elsewhere.
    report = msgspec.structs.replace(report, output=None)
    rendered = {
        "report.html": html.render(report).encode(),
        "report.json": json_report.render(report),
        "report.md": markdown.render(report).encode(),
    }
    for name, content in rendered.items():
        (folder / name).write_bytes(content)
    files = {name: _entry(folder / name) for name in rendered}
    content = to_json(manifest)
    (folder / MANIFEST).write_bytes(content)
    sealed = seal(measurements_of(report, files), sha256_bytes(content))
    (folder / MEASUREMENTS).write_bytes(to_json(sealed))


def _write_archive(folder: Path, archive: Path) -> bool:
    """Pack a folder; an archive that is equal already stays untouched."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    handle, name = tempfile.mkstemp(prefix=f".{folder.name}.new-", dir=archive.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write_archive(file, folder, names, folder.name)
            file.flush()
            os.fsync(file.fileno())
        if archive.exists() and filecmp.cmp(name, archive, shallow=False):
            return False
        Path(name).chmod(0o644)
        Path(name).replace(archive)
    finally:
        Path(name).unlink(missing_ok=True)
    return True
