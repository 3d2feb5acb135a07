"""Files written so that a crash at any moment leaves either the old or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from edgekit.core.errors import DeviceError, EdgekitError, InputError

T = TypeVar("T")
_NOT_WRITABLE = frozenset(
    {errno.EACCES, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it there.

    Raises:
        EdgekitError: The folder is not writable or the disk is full.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file into `kind`.

    Raises:
        InputError: The file is missing, is not JSON or does not fit `kind`.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{path} is damaged or of another version", found=str(error)) from error


def copy_tree(source: Path, target: Path) -> None:
    """Copy the regular files of a folder, following no symbolic link."""
    with explain_os_errors(target):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder by hard links where the file system allows it; for files nobody changes."""
    with explain_os_errors(target):
        shutil.copytree(
            source, target, symlinks=True, dirs_exist_ok=True, copy_function=_link_or_copy
        )


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return str(shutil.copy2(source, target, follow_symlinks=False))
    return target


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn 'no space' and 'not permitted' into messages that name the place and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DeviceError(
                f"writing {path}",
                found="no space left on the disk",
                hint="Free space (`edgekit cache gc` removes old artifacts) and run again; "
                "finished stages are kept",
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise InputError(
                f"writing {path}",
                found=error.strerror or "a refusal",
                hint="Choose a folder you may write to, for example with --output",
            ) from error
        if error.errno == errno.EFBIG:
            raise EdgekitError(f"writing {path}", found="the file size limit of this shell") from (
                error
            )
        raise
