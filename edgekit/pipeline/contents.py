"""What a bundle's folder or tar file really holds, read without trusting any of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from edgekit.core.canonical import sha256_file
from edgekit.pipeline.archive import DamagedArchiveError, read_archive
from edgekit.pipeline.manifest import (
    DECODE_ERRORS,
    INDEX_FILES,
    MANIFEST,
    MAX_INDEX_BYTES,
    MEASUREMENTS,
    REPORTS,
    FileEntry,
    Manifest,
    Sealed,
)

_MAX_DEPTH = 32


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Name one file that is not as it should be."""

    kind: Literal["changed", "missing", "added", "damaged"]
    path: str
    reason: str = ""


class Contents(msgspec.Struct):
    """Collect what a folder or an archive holds.

    Args:
        files: Regular files by relative name; the digest is empty where it is of no use.
        index: Content of the index files.
        problems: What has no place in a bundle.
        has_modes: Whether file modes are part of it, as in an archive.
    """

    files: dict[str, FileEntry]
    index: dict[str, bytes]
    problems: list[Problem]
    has_modes: bool


class _Stamp(msgspec.Struct):
    """Know a bundle of any version."""

    schema: int
    edgekit: str
    files: dict[str, msgspec.Raw]


def stamped_files(folder: Path) -> frozenset[str] | None:
    """Return the files that edgekit wrote into a bundle's folder; None when it is not a bundle."""
    try:
        stamp = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Stamp)
    except (OSError, *DECODE_ERRORS):
        return None
    return frozenset({*stamp.files, *INDEX_FILES, *REPORTS})


def read_folder(folder: Path) -> Contents:
    """Read a folder; links are not followed, and only files that the manifest names are hashed."""
    contents = Contents({}, {}, [], has_modes=False)
    for path, status in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if stat.S_ISDIR(status.st_mode):
            contents.problems.append(
                Problem(kind="added", path=name, reason="a folder without files of the bundle")
            )
        elif not stat.S_ISREG(status.st_mode):
            contents.problems.append(
                Problem(kind="damaged", path=name, reason="a link or special file, never followed")
            )
        else:
            contents.files[name] = FileEntry(sha256="", size=status.st_size)
            if name in INDEX_FILES and status.st_size <= MAX_INDEX_BYTES:
                contents.index[name] = path.read_bytes()
    # Only files the manifest knows are worth reading; the others are a problem anyway.
    for name, entry in listed_files(contents).items():
        found = contents.files.get(name)
        if found is not None and found.size == entry.size:
            digest = sha256_file(folder / name)
            contents.files[name] = FileEntry(sha256=digest, size=found.size)
    return contents


def _walk(folder: Path, depth: int = 0) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield files, links, and folders that are empty or deeper than any of a bundle."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        path = folder / entry.name
        if stat.S_ISDIR(status.st_mode) and depth < _MAX_DEPTH and any(path.iterdir()):
            yield from _walk(path, depth + 1)
        else:
            yield path, status


def read_tar(path: Path) -> Contents:
    """Read a tar file in place; nothing is unpacked."""
    contents = Contents({}, {}, [], has_modes=True)
    try:
        with path.open("rb") as file:
            for member, pieces in read_archive(file):
                digest = hashlib.sha256()
                kept = bytearray()
                is_index = member.name in INDEX_FILES and member.size <= MAX_INDEX_BYTES
                for piece in pieces:
                    digest.update(piece)
                    if is_index:
                        kept += piece
                if is_index:
                    contents.index[member.name] = bytes(kept)
                contents.files[member.name] = FileEntry(
                    sha256=digest.hexdigest(), size=member.size, executable=member.executable
                )
    except DamagedArchiveError as error:
        contents.problems.append(Problem(kind="damaged", path=path.name, reason=str(error)))
    return contents


def listed_files(contents: Contents) -> dict[str, FileEntry]:
    """Return the files that the two index files name; of a damaged one, none."""
    files: dict[str, FileEntry] = {}
    with contextlib.suppress(KeyError, *DECODE_ERRORS):
        files |= msgspec.json.decode(contents.index[MANIFEST], type=Manifest).files
    with contextlib.suppress(KeyError, *DECODE_ERRORS):
        sealed = msgspec.json.decode(contents.index[MEASUREMENTS], type=Sealed)
        files |= sealed.measurements().files
    return files
