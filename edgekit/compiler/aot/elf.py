"""Read symbols of ELF files: what an object still needs, what a library shows.

Why not `nm`: it is not installed everywhere, and the promise "this library needs libc and nothing
else" has to be checked on every build.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

MACHINES = {3: "x86", 40: "armv7", 62: "x86_64", 183: "aarch64"}
_SECTION_SYMTAB = 2
_SECTION_DYNAMIC = 6
_SECTION_DYNSYM = 11
_TAG_NEEDED = 1
_BIND_LOCAL = 0
_VISIBILITY_DEFAULT = 0


class ElfFile(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a linker would look at.

    Args:
        machine: Instruction set by edgekit's name, such as `aarch64`.
        is_shared: Whether the file is a shared library.
        undefined: Names the file needs from elsewhere.
        exported: Names other files may use.
        needed: File names of the shared libraries it asks for.
    """

    machine: str
    is_shared: bool
    undefined: frozenset[str]
    exported: frozenset[str]
    needed: tuple[str, ...]


class _Section(msgspec.Struct, frozen=True):
    kind: int
    offset: int
    size: int
    link: int
    entry_size: int


def read_elf(path: Path) -> ElfFile:
    """Read an object file or a shared library, 32 or 64 bit, little-endian.

    Args:
        path: The file; written by our own tool chain, so no attempt is made to survive garbage.

    Returns:
        Its symbols. For a shared library those of the dynamic symbol table.

    Raises:
        ValueError: The file is not ELF.
    """
    data = path.read_bytes()
    if data[:4] != b"\x7fELF":
        raise ValueError(f"{path}: not an ELF file")
    is_64 = data[4] == 2
    kind, machine = struct.unpack_from("<HH", data, 16)
    sections = _sections(data, is_64=is_64)
    is_shared = kind == 3
    table = _SECTION_DYNSYM if is_shared else _SECTION_SYMTAB
    undefined: set[str] = set()
    exported: set[str] = set()
    for section in sections:
        if section.kind == table:
            strings = sections[section.link]
            for name, bind, visibility, index in _symbols(data, section, strings, is_64=is_64):
                if name and bind != _BIND_LOCAL and index == 0:
                    undefined.add(name)
                elif name and bind != _BIND_LOCAL and visibility == _VISIBILITY_DEFAULT:
                    exported.add(name)
    return ElfFile(
        machine=MACHINES.get(machine, f"machine {machine}"),
        is_shared=is_shared,
        undefined=frozenset(undefined),
        exported=frozenset(exported),
        needed=tuple(_needed(data, sections, is_64=is_64)),
    )


def _sections(data: bytes, *, is_64: bool) -> list[_Section]:
    if is_64:
        (table,) = struct.unpack_from("<Q", data, 40)
        size, count = struct.unpack_from("<HH", data, 58)
        layout, fields = "<IIQQQQIIQQ", (1, 4, 5, 6, 9)
    else:
        (table,) = struct.unpack_from("<I", data, 32)
        size, count = struct.unpack_from("<HH", data, 46)
        layout, fields = "<IIIIIIIIII", (1, 4, 5, 6, 9)
    rows = (struct.unpack_from(layout, data, table + i * size) for i in range(count))
    return [_Section(*(row[field] for field in fields)) for row in rows]


def _symbols(
    data: bytes, section: _Section, strings: _Section, *, is_64: bool
) -> Iterator[tuple[str, int, int, int]]:
    for offset in range(section.offset, section.offset + section.size, section.entry_size):
        if is_64:
            name, info, other, index = struct.unpack_from("<IBBH", data, offset)
        else:
            name, _, _, info, other, index = struct.unpack_from("<IIIBBH", data, offset)
        yield _string(data, strings, name), info >> 4, other & 3, index


def _needed(data: bytes, sections: list[_Section], *, is_64: bool) -> Iterator[str]:
    layout = "<qQ" if is_64 else "<iI"
    for section in sections:
        if section.kind != _SECTION_DYNAMIC:
            continue
        rows = data[section.offset : section.offset + section.size]
        for tag, value in struct.iter_unpack(layout, rows):
            if tag == _TAG_NEEDED:
                yield _string(data, sections[section.link], value)


def _string(data: bytes, strings: _Section, offset: int) -> str:
    start = strings.offset + offset
    return data[start : data.index(b"\0", start)].decode("ascii", "replace")
