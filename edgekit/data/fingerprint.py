"""Digests of options and of the files they point at; imports no framework.

A path stands for its content: the same file elsewhere gives the same digest, a changed byte
another one.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path

from edgekit.core.canonical import sha256_file, sha256_json, sha256_path
from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.core.schema import to_plain


def path_fields(kind: type[Options]) -> tuple[str, ...]:
    """Give the names of the fields that `path_option` marks as paths."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(name for name in kind.__struct_fields__ if _is_path(hints[name]))


def content_digest(options: Options) -> str:
    """Digest options, every path replaced by the digest of the file or folder.

    Raises:
        InputError: a path does not exist.
    """
    plain = to_plain(options)
    for name in path_fields(type(options)):
        if plain[name] is not None:
            plain[name] = sha256_path(existing(Path(plain[name]), _entry_name(options)))
    return sha256_json({"entry": _entry_name(options), "options": plain})


def files_digest(options: Options, files: Mapping[str, Path]) -> str:
    """Digest options without their paths, and the content of `files` by role."""
    plain = to_plain(options)
    for name in path_fields(type(options)):
        del plain[name]
    digests = {role: sha256_file(path) for role, path in files.items()}
    return sha256_json({"entry": _entry_name(options), "options": plain, "files": digests})


def existing(path: Path, reader: str, *, hint: str | None = None) -> Path:
    """Give `path` back if it exists.

    Raises:
        InputError: it does not.
    """
    if not path.exists():
        raise InputError(f"{reader}: {path} does not exist", hint=hint)
    return path


def _entry_name(options: Options) -> str:
    return type(options).__module__.rpartition(".")[2].replace("_", "-")


def _is_path(annotation: object) -> bool:
    if typing.get_origin(annotation) is not typing.Annotated:
        return False
    metas = [m for m in typing.get_args(annotation)[1:] if isinstance(m, Meta)]
    return any(bool(m.extra and m.extra.get("path")) for m in metas)
