"""Bundles as one tar file, written in exactly one form and read only in that form.

Why not `tarfile` for reading: a bundle may come from anywhere. Here each header must equal, byte
by byte, the one that the writer would make for that name, size and mode. So links, devices, paths
that escape, extensions and hidden trailing data cannot occur, and every changed byte is noticed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from edgekit.core.errors import EdgekitError
from edgekit.pipeline.manifest import is_portable_name

_BLOCK = tarfile.BLOCKSIZE
_RECORD = tarfile.RECORDSIZE
_CHUNK = 1 << 20
_MAX_MEMBERS = 100_000


class DamagedArchiveError(Exception):
    """Say that a tar file is not one that edgekit wrote; never leaves the pipeline."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one file of an archive; `name` is relative to the bundle's folder."""

    name: str
    size: int
    executable: bool


def write_archive(file: BinaryIO, folder: Path, names: list[str], prefix: str) -> None:
    """Write files of a folder as a tar file: sorted, without times, owners and folders.

    Args:
        file: Where to write.
        folder: The bundle's folder.
        names: Its files, relative.
        prefix: Folder that unpacking makes.

    Raises:
        EdgekitError: A name is too long for the format.
    """
    written = 0
    for name in sorted(names):
        path = folder / name
        status = path.stat()
        member = Member(name=name, size=status.st_size, executable=bool(status.st_mode & 0o100))
        file.write(_header(member, prefix))
        with path.open("rb") as content:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
        file.write(bytes(-member.size % _BLOCK))
        written += _BLOCK + member.size + -member.size % _BLOCK
    file.write(_end(written))


def read_archive(file: BinaryIO) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Yield each file with its content in pieces; content not consumed is passed over.

    Raises:
        DamagedArchiveError: The file is not in the one form that `write_archive` makes.
    """
    prefix, last, position = "", "", 0
    for _ in range(_MAX_MEMBERS):
        block = _exactly(file, _BLOCK)
        position += _BLOCK
        if not any(block):
            _check_end(file, position - _BLOCK)
            return
        prefix, member = _parse(block, prefix)
        if member.name <= last:
            raise DamagedArchiveError(f"{member.name} is not in order")
        last = member.name
        pieces = _pieces(file, member.size)
        yield member, pieces
        for _ in pieces:
            pass
        padding = -member.size % _BLOCK
        if any(_exactly(file, padding)):
            raise DamagedArchiveError(f"{member.name} is followed by hidden data")
        position += member.size + padding
    raise DamagedArchiveError(f"more than {_MAX_MEMBERS} files")


def is_archive(path: Path) -> bool:
    """Tell whether a file begins as `write_archive` begins one."""
    try:
        with path.open("rb") as file:
            _parse(_exactly(file, _BLOCK), "")
    except (OSError, DamagedArchiveError):
        return False
    return True


def _header(member: Member, prefix: str) -> bytes:
    info = tarfile.TarInfo(f"{prefix}/{member.name}")
    info.size = member.size
    info.mode = 0o755 if member.executable else 0o644
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise EdgekitError(
            f"packing {member.name}",
            found=str(error),
            hint="Give the file a shorter name",
        ) from error


def _parse(block: bytes, prefix: str) -> tuple[str, Member]:
    """Return the folder that all members share, and one member."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise DamagedArchiveError(f"a header is not readable: {error}") from error
    own, _, name = info.name.partition("/")
    if not is_portable_name(own) or not is_portable_name(name):
        raise DamagedArchiveError(f"{info.name!r} is not a path inside the bundle")
    if prefix and own != prefix:
        raise DamagedArchiveError(f"{info.name!r} is outside of {prefix}/")
    if info.size < 0:
        raise DamagedArchiveError(f"{info.name!r} claims {info.size} bytes")
    member = Member(name=name, size=info.size, executable=info.mode == 0o755)
    try:
        is_canonical = _header(member, own) == block
    except EdgekitError:
        is_canonical = False
    if not is_canonical:
        raise DamagedArchiveError(f"{info.name!r} is not a plain file as edgekit packs it")
    return own, member


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = _exactly(file, min(size, _CHUNK))
        size -= len(piece)
        yield piece


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise DamagedArchiveError("the file ends early")
    return content


def _check_end(file: BinaryIO, size: int) -> None:
    # One block of the end was already read.
    rest = len(_end(size)) - _BLOCK
    content = file.read(rest + 1)
    if len(content) != rest or any(content):
        raise DamagedArchiveError("the file does not end as edgekit writes it")


def _end(size: int) -> bytes:
    """Return the zeros that close an archive of `size` bytes: two blocks, then a full record."""
    end = 2 * _BLOCK
    return bytes(end + -(size + end) % _RECORD)
