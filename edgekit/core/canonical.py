"""Canonical JSON and SHA-256 digests: equal content gives equal bytes and equal keys."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - anything msgspec can write
    """Return JSON with sorted keys and no white space; NaN and infinities are refused."""
    return msgspec.json.encode(msgspec.to_builtins(value, str_keys=True), order="sorted")


def sha256_json(value: Any) -> str:  # noqa: ANN401 - anything msgspec can write
    """Return the hex digest of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Return the hex digest of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(folder: Path) -> dict[str, str]:
    """Return each file below `folder`, as a POSIX relative path, with its content's digest.

    A link to a file counts as the file: caches of model hubs hold nothing but links.
    """
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sha256_path(path: Path) -> str:
    """Return the digest of a file's content, or of a folder's files and their names."""
    return sha256_json(sha256_tree(path)) if path.is_dir() else sha256_file(path)
