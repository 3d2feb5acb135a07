"""Verify bundles: every byte is what the manifest and the seal say. Bundles are not trusted."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgekit.core.canonical import sha256_bytes, sha256_json
from edgekit.core.errors import InputError
from edgekit.core.files import explain_os_errors
from edgekit.core.report import BuildReport
from edgekit.pipeline.archive import read_archive
from edgekit.pipeline.contents import Contents, Problem, listed_files, read_folder, read_tar
from edgekit.pipeline.manifest import (
    DECODE_ERRORS,
    INDEX_FILES,
    MANIFEST,
    MAX_INDEX_BYTES,
    MEASUREMENTS,
    REPORTS,
    SCHEMA,
    Manifest,
    Measurements,
    Sealed,
    is_portable_name,
    to_json,
)
from edgekit.pipeline.report import json_report


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """Tell whether a bundle is whole.

    Args:
        ok: Whether no problem was found.
        problems: What was found, sorted by path.
        manifest_digest: SHA-256 of `manifest.json`, empty when it is missing. Only a digest from a
            trusted place tells a bundle from one that was changed with care.
    """

    ok: bool
    problems: tuple[Problem, ...]
    manifest_digest: str


class OpenBundle(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a verified bundle that lies in a folder."""

    folder: Path
    manifest: Manifest
    manifest_digest: str
    measurements: Measurements
    report: BuildReport


def verify(path: Path) -> Verification:
    """Check a bundle's folder or tar file; a tar file is read in place, nothing is unpacked.

    Args:
        path: `dist/TARGET` or `dist/TARGET.tar`.

    Raises:
        InputError: There is nothing at `path`, or it cannot be read.
    """
    with explain_os_errors(path):
        if path.is_dir():
            contents = read_folder(path)
        elif path.is_file():
            contents = read_tar(path)
        else:
            raise InputError(
                f"verifying {path}", found="nothing there", expected="a bundle's folder or .tar"
            )
    problems = sorted(_check(contents), key=lambda problem: (problem.path, problem.kind))
    manifest = contents.index.get(MANIFEST)
    digest = "" if manifest is None else sha256_bytes(manifest)
    return Verification(ok=not problems, problems=tuple(problems), manifest_digest=digest)


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[OpenBundle]:
    """Verify a bundle and give it as a folder; a tar file is unpacked for as long as it is open.

    Raises:
        InputError: The bundle is not whole, or of another version.
    """
    found = verify(path)
    if not found.ok:
        raise _not_whole(path, found)
    with contextlib.ExitStack() as stack:
        folder = path
        if path.is_file():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
            _unpack(path, folder)
        yield _read(folder, found.manifest_digest)


def _read(folder: Path, digest: str) -> OpenBundle:
    sealed = msgspec.json.decode((folder / MEASUREMENTS).read_bytes(), type=Sealed)
    return OpenBundle(
        folder=folder,
        manifest=msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest),
        manifest_digest=digest,
        measurements=sealed.measurements(),
        report=json_report.parse((folder / "report.json").read_bytes()),
    )


def _not_whole(path: Path, found: Verification) -> InputError:
    shown = [f"{problem.path} {problem.kind}" for problem in found.problems[:3]]
    more = len(found.problems) - len(shown)
    return InputError(
        f"{path} is not a whole bundle",
        found=", ".join(shown) + (f" and {more} more" if more else ""),
        hint=f"`edgekit verify {path}` lists everything; copy or build the bundle again",
    )


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a verified archive; its names were checked as they were read."""
    with explain_os_errors(folder), path.open("rb") as file:
        for member, pieces in read_archive(file):
            place = folder / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as out:
                out.writelines(pieces)
            place.chmod(0o755 if member.executable else 0o644)


def _check(contents: Contents) -> Iterator[Problem]:
    yield from contents.problems
    if any(problem.kind == "damaged" and contents.has_modes for problem in contents.problems):
        return  # what follows in a damaged archive is unknown, so nothing is called missing
    for name in INDEX_FILES:
        if name not in contents.index:
            is_there = name in contents.files
            reason = f"larger than {MAX_INDEX_BYTES} bytes" if is_there else ""
            yield Problem(kind="damaged" if is_there else "missing", path=name, reason=reason)
    manifest, sealed = contents.index.get(MANIFEST), contents.index.get(MEASUREMENTS)
    if sealed is not None and manifest is not None:
        yield from _check_seal(sealed, manifest)
    if manifest is not None:
        flaw = _flaw_of_manifest(manifest)
        if flaw:
            yield Problem(kind="damaged", path=MANIFEST, reason=flaw)
            return  # without its list every file would be called added
        yield from _check_files(contents)


def _flaw_of_manifest(content: bytes) -> str:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except DECODE_ERRORS as error:
        return str(error)
    if manifest.schema != SCHEMA:
        return f"schema {manifest.schema}, this edgekit reads {SCHEMA}: build the bundle again"
    for name in manifest.files:
        if not is_portable_name(name) or name in (*INDEX_FILES, *REPORTS):
            return f"{name!r} is no path it may list"
    return ""


def _check_seal(content: bytes, manifest: bytes) -> Iterator[Problem]:
    try:
        sealed = msgspec.json.decode(content, type=Sealed)
        body = sealed.measurements()
    except DECODE_ERRORS as error:
        yield Problem(kind="damaged", path=MEASUREMENTS, reason=str(error))
        return
    if sealed.sha256 != sha256_json(sealed.body):
        yield Problem(kind="changed", path=MEASUREMENTS, reason="not as it was sealed")
    elif content != to_json(sealed):
        # Another spelling of the same values, such as one more space.
        yield Problem(kind="changed", path=MEASUREMENTS, reason="not in the form it was written")
    if sealed.manifest != sha256_bytes(manifest):
        yield Problem(kind="changed", path=MANIFEST, reason="not the one that was measured")
    if set(body.files) != set(REPORTS):
        yield Problem(kind="damaged", path=MEASUREMENTS, reason="does not list the reports")


def _check_files(contents: Contents) -> Iterator[Problem]:
    listed = listed_files(contents)
    for name in sorted(listed.keys() | contents.files.keys()):
        wanted, found = listed.get(name), contents.files.get(name)
        if name in INDEX_FILES:
            continue
        if wanted is None:
            yield Problem(kind="added", path=name)
        elif found is None:
            yield Problem(kind="missing", path=name)
        elif (wanted.size, wanted.sha256) != (found.size, found.sha256):
            yield Problem(kind="changed", path=name)
        elif contents.has_modes and wanted.executable != found.executable:
            yield Problem(kind="changed", path=name, reason="its mode")
