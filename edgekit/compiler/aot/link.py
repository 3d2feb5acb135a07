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

from edgekit.compiler.aot.codegen import CSources, exported_names
from edgekit.compiler.aot.elf import ElfFile, read_elf
from edgekit.compiler.aot.lowering import LIBC, LIBM
from edgekit.compiler.aot.toolchain import Toolchain
from edgekit.core.errors import StageError, require_module

_SHARED_PAGE_SIZE = "16384"  # required of new Android devices, and right everywhere else
_TIMEOUT_S = 1500  # the first program for a system makes zig build its libc
_SUPPORT_LIBRARY = frozenset({"__aeabi_memcpy", "__aeabi_memset", "__aeabi_memmove"})
# What threads and the entry for TVM's runtime use; kernels call none of it.
_LIBC_CALLS = frozenset(
    {
        *("getpid", "sched_yield", "posix_memalign", "free", "strcmp"),
        *("pthread_create", "pthread_join", "pthread_mutex_lock", "pthread_mutex_unlock"),
        *("pthread_mutex_init", "pthread_cond_init", "pthread_cond_wait", "pthread_cond_broadcast"),
        *("pthread_attr_init", "pthread_attr_setstacksize", "pthread_attr_destroy"),
    }
)


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """Name the libraries of one model.

    Args:
        shared: For `dlopen`; None where the libc is static only.
        static: For embedding.
        program: The model as a program that needs no file but itself; None when not asked for.
    """

    shared: Path | None
    static: Path
    program: Path | None = None


def link_model(
    sources: CSources,
    kernels: Sequence[Path],
    header_folder: Path,
    toolchain: Toolchain,
    *,
    name: str,
    num_tensors: int,
    program: bool = False,
) -> Linked:
    """Make `libNAME.so` and `libNAME.a` beside the sources.

    Args:
        sources: The generated files, all in one folder.
        kernels: Object files of the kernels, in the same folder.
        header_folder: Where `ek_model.h` lies.
        toolchain: What to link for.
        name: Name of the model.
        num_tensors: Inputs and outputs of the model.
        program: Whether to link the model as a static program as well.

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
    objects = (model_o, *(path.name for path in kernels), weights_o)
    static = folder / f"lib{name}.a"
    static.unlink(missing_ok=True)
    zig.ar(static.name, objects)
    shared = None
    if toolchain.has_shared:
        shared = folder / f"lib{name}.so"
        zig.cc(
            *_shared_flags(shared.name, sources.exports.name),
            *objects,
            _packed_object(zig, (*common, "-I", header), name, num_tensors),
            *_libraries(zig, toolchain),
            *("-o", shared.name),
        )
        check_library(read_elf(shared), name=name)
    if not program:
        return Linked(shared=shared, static=static)
    return Linked(shared=shared, static=static, program=_link_program(zig, objects, header, name))


def check_library(library: ElfFile, *, name: str) -> None:
    """Check that a library shows the ABI and needs libc and libm only.

    Raises:
        StageError: It does not.
    """
    abi = exported_names(name)
    if library.exported != abi:
        raise StageError(
            f"linking lib{name}.so",
            found=f"exported {', '.join(sorted(library.exported))}",
            expected=", ".join(sorted(abi)),
        )
    foreign = set(library.undefined - LIBC - LIBM - _LIBC_CALLS - _SUPPORT_LIBRARY)
    # Hooks every shared library may call when the system has them.
    foreign -= {"__cxa_finalize", "__gmon_start__"}
    foreign = {symbol for symbol in foreign if not symbol.startswith("_ITM_")}
    if foreign:
        raise StageError(
            f"linking lib{name}.so",
            found=f"calls to {', '.join(sorted(foreign))}",
            expected="functions of libc and libm only",
        )


def _packed_object(zig: _Zig, flags: Sequence[str], name: str, num_tensors: int) -> str:
    """Compile the entry for TVM's runtime, which the library for embedding does without."""
    named = (
        f"-DEK_MODEL={name}_model",
        f"-DEK_ENTRY=__tvm_ffi_{name}_run",
        f"-DEK_NUM_TENSORS={num_tensors}",
    )
    zig.cc(*flags, *named, "-c", "ek_packed.c", "-o", f"{name}_packed.o")
    return f"{name}_packed.o"


def _link_program(zig: _Zig, objects: Sequence[str], header: str, name: str) -> Path:
    """Link the model with `ek_main.c` and musl: the first time zig builds musl, in minutes."""
    main_o = f"{name}_main.o"
    system = zig.static_target
    zig.cc("-O2", "-g0", "-I", header, "-c", "ek_main.c", "-o", main_o, target=system)
    flags = ("-static", "-s", "-O2", "-g0", "-Wl,--gc-sections", "-Wl,--build-id=none")
    zig.cc(*flags, main_o, *objects, "-lm", "-o", name, target=system)
    return zig.folder / name


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
        return ("-Wl,--as-needed", "-lm", "-lpthread")
    stubs = {"libc.so": LIBC | _LIBC_CALLS | _SUPPORT_LIBRARY, "libm.so": LIBM}
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

    @property
    def static_target(self) -> str:
        """Return the target whose libc can be linked into a program, the same architecture's."""
        architecture, system, _ = self._target.split("-", 2)
        return f"{architecture}-{system}-musl{'eabihf' if architecture == 'arm' else ''}"

    def cc(self, *arguments: str, target: str | None = None) -> None:
        """Compile or link."""
        self._run("cc", "-target", target or self._target, *arguments)

    def ar(self, archive: str, objects: Sequence[str]) -> None:
        """Make an archive; D: no times, owners or modes inside."""
        self._run("ar", "rcsD", archive, *objects)

    def _run(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "ziglang", *arguments]
        doing = f"linking for {self._target} with `zig {' '.join(arguments[:1])}`"
        try:
            done = self._done(command)
        except subprocess.TimeoutExpired as error:
            raise StageError(doing, found=f"no end after {_TIMEOUT_S} s") from error
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            found = " / ".join(lines[-3:]) or f"exit status {done.returncode}"
            raise StageError(doing, found=found)

    def _done(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
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
