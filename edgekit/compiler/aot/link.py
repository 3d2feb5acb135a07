"""Compile the C parts and link them with zig: a shared and a static library for any target.

`ziglang` from PyPI carries clang, lld and the libc of every target, so no system tool chain is
needed. Its commands run inside the build folder on relative paths, without debug information and
build ids, so that the same input gives the same bytes in any folder.

Android: zig has no bionic. The library is linked without any libc against stub libraries that
carry bionic's names; the device's own libraries take their place.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgekit.compiler.aot.codegen import CSources
from edgekit.compiler.aot.elf import ElfFile, read_elf
from edgekit.compiler.aot.lowering import LIBC, LIBM
from edgekit.compiler.aot.toolchain import Toolchain
from edgekit.core.errors import StageError, require_module

_SHARED_PAGE_SIZE = "16384"  # required of new Android devices, and right everywhere else
_TIMEOUT_S = 300
_SUPPORT_LIBRARY = frozenset({"__aeabi_memcpy", "__aeabi_memset", "__aeabi_memmove"})


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """Name the libraries of one model.

    Args:
        shared: For `dlopen`; None where the libc is static only.
        static: For embedding.
    """

    shared: Path | None
    static: Path


def link_model(
    sources: CSources, kernels: Path, header_folder: Path, toolchain: Toolchain, *, name: str
) -> Linked:
    """Make `libNAME.so` and `libNAME.a` beside the sources.

    Args:
        sources: The generated files, all in one folder.
        kernels: Object file of the kernels, in the same folder.
        header_folder: Where `ek_model.h` lies.
        toolchain: What to link for.
        name: Name of the model.

    Returns:
        The libraries.

    Raises:
        InputError: `ziglang` is not installed.
        StageError: zig refused, or the library shows or needs more than the ABI allows.
    """
    require_module("ziglang", "tvm")
    folder = sources.model_c.parent
    zig = _Zig(folder, toolchain)
    header = os.path.relpath(header_folder, folder)
    model_o, weights_o = f"{name}_model.o", f"{name}_weights.o"
    common = ("-O2", "-g0", "-fPIC", "-Werror", "-Wall", "-Wextra")
    zig.cc(*common, "-I", header, "-c", sources.model_c.name, "-o", model_o)
    zig.cc("-g0", "-c", sources.weights_s.name, "-o", weights_o)
    kernels_o = kernels.rename(folder / f"{name}_kernels.o").name
    objects = (model_o, kernels_o, weights_o)
    static = folder / f"lib{name}.a"
    static.unlink(missing_ok=True)
    zig.ar(static.name, objects)
    shared = None
    if toolchain.has_shared:
        shared = folder / f"lib{name}.so"
        zig.cc(
            *_shared_flags(shared.name, sources.exports.name),
            *objects,
            *_libraries(zig, toolchain),
            *("-o", shared.name),
        )
        check_library(read_elf(shared), name=name)
    return Linked(shared=shared, static=static)


def check_library(library: ElfFile, *, name: str) -> None:
    """Check that a library shows the ABI and needs libc and libm only.

    Raises:
        StageError: It does not.
    """
    abi = {f"{name}_run", f"{name}_model", "ek_model"}
    if library.exported != abi:
        raise StageError(
            f"linking lib{name}.so",
            found=f"exported {', '.join(sorted(library.exported))}",
            expected=", ".join(sorted(abi)),
        )
    foreign = set(library.undefined - LIBC - LIBM - _SUPPORT_LIBRARY)
    # Hooks every shared library may call when the system has them.
    foreign -= {"__cxa_finalize", "__gmon_start__"}
    foreign = {symbol for symbol in foreign if not symbol.startswith("_ITM_")}
    if foreign:
        raise StageError(
            f"linking lib{name}.so",
            found=f"calls to {', '.join(sorted(foreign))}",
            expected="functions of libc and libm only",
        )


def _shared_flags(soname: str, exports: str) -> tuple[str, ...]:
    linker = (
        f"-soname,{soname}",
        f"--version-script={exports}",
        "--gc-sections",
        "--build-id=none",
        f"-z,max-page-size={_SHARED_PAGE_SIZE}",
        "-z,relro",
        "-z,now",
    )
    return ("-shared", "-s", "-O2", "-g0", *(f"-Wl,{flag}" for flag in linker))


def _libraries(zig: _Zig, toolchain: Toolchain) -> tuple[str, ...]:
    if not toolchain.is_android:
        return ("-lm",)
    stubs = {"libc.so": LIBC | _SUPPORT_LIBRARY, "libm.so": LIBM}
    for soname, symbols in stubs.items():
        source = zig.folder / f"stub_{soname}.c"
        source.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in sorted(symbols)))
        zig.cc(
            *("-w", "-fno-builtin", "-shared", "-nostdlib", "-g0", f"-Wl,-soname,{soname}"),
            *(source.name, "-o", soname),
        )
    return ("-nostdlib", "-Wl,--as-needed", *(f"./{soname}" for soname in stubs))


class _Zig:
    """Run zig's tools inside one folder."""

    def __init__(self, folder: Path, toolchain: Toolchain) -> None:
        self.folder = folder
        self._target = toolchain.zig
        # Only what the tools need: a user's CFLAGS or LD_LIBRARY_PATH has no say in the bytes.
        kept = ("HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR")
        environment = {key: os.environ[key] for key in kept if key in os.environ}
        self._environment: Mapping[str, str] = {
            **environment,
            "ZIG_LOCAL_CACHE_DIR": str(folder / "zig-cache"),
            "LC_ALL": "C",
        }

    def cc(self, *arguments: str) -> None:
        """Compile or link."""
        self._run("cc", "-target", self._target, *arguments)

    def ar(self, archive: str, objects: Sequence[str]) -> None:
        """Make an archive; D: no times, owners or modes inside."""
        self._run("ar", "rcsD", archive, *objects)

    def _run(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "ziglang", *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise StageError(
                f"linking for {self._target} with `zig {' '.join(arguments[:1])}`",
                found=" / ".join(lines[-3:]) or f"exit status {done.returncode}",
            )
