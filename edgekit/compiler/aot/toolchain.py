"""Say a target in the words of LLVM (through TVM) and of zig, which links.

Both are told the oldest system the library must run on: the glibc of the target, the CPU by name
and its features. TVM does not normalise triples: it takes `aarch64-linux-android` for no Android
at all and uses x18, which Android reserves, so the vendor is always spelled out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgekit.core.errors import InputError
from edgekit.core.target import Target

_ZIG_ARCH = {"x86_64": "x86_64", "aarch64": "aarch64", "armv7": "arm"}
_LLVM_ARCH = {"x86_64": "x86_64", "aarch64": "aarch64", "armv7": "armv7"}
_OLDEST_GLIBC = {"x86_64": "2.17", "aarch64": "2.17", "armv7": "2.17"}
_ARMV7_FEATURES = ("neon", "vfp4")
_AARCH64_NAMES = {"fp16": "fullfp16"}  # LLVM's word where it is another one on 64-bit Arm


class Toolchain(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one target as the tools want it.

    Args:
        isa: Instruction set by edgekit's name.
        llvm: TVM's description of the target.
        zig: zig's `-target`.
        is_android: Link against stub libraries with bionic's names; zig has no bionic.
        has_shared: False for a fully static libc, which cannot load libraries.
        lanes: float32 values in a vector register.
        num_registers: Vector registers.
    """

    isa: str
    llvm: dict[str, Any]
    zig: str
    is_android: bool
    has_shared: bool
    lanes: int
    num_registers: int


def toolchain_for(target: Target) -> Toolchain:
    """Translate a target.

    Raises:
        InputError: Its triple is for another system than Linux or Android.
    """
    system = _system(target)
    isa = target.cpu.isa
    is_android = system.startswith("android")
    hard_float = "eabihf" if isa == "armv7" and not is_android else ""
    if is_android:
        # zig's musl headers and start files are never used: linking is -nostdlib.
        zig_system = "musleabihf" if isa == "armv7" else "musl"
        llvm_system = "unknown-linux-androideabi" if isa == "armv7" else "unknown-linux-android"
    elif system.startswith("musl"):
        zig_system = llvm_system = f"musl{hard_float}"
        llvm_system = f"unknown-linux-{llvm_system}"
    else:
        zig_system = f"gnu{hard_float}.{target.os.glibc or _OLDEST_GLIBC[isa]}"
        llvm_system = f"unknown-linux-gnu{hard_float}"
    return Toolchain(
        isa=isa,
        llvm=_llvm(target, f"{_LLVM_ARCH[isa]}-{llvm_system}"),
        zig=f"{_ZIG_ARCH[isa]}-linux-{zig_system}",
        is_android=is_android,
        has_shared=is_android or not system.startswith("musl"),
        lanes=target.simd_lanes,
        num_registers=32 if isa == "aarch64" or target.simd_bytes == 64 else 16,
    )


def _system(target: Target) -> str:
    parts = target.os.triple.split("-")
    system = parts[-1]
    if "linux" not in parts or not system.startswith(("gnu", "musl", "android")):
        raise InputError(
            f"compiling for target '{target.name}'",
            found=f"triple '{target.os.triple}'",
            expected="ARCH-linux-gnu, ARCH-linux-musl or ARCH-linux-android",
        )
    return system


def _llvm(target: Target, triple: str) -> dict[str, Any]:
    names = _AARCH64_NAMES if target.cpu.isa == "aarch64" else {}
    features = [f"+{names.get(feature, feature)}" for feature in sorted(target.cpu.features)]
    described: dict[str, Any] = {"kind": "llvm", "mtriple": triple, "num-cores": 1}
    if target.cpu.isa == "armv7":
        described["mfloat-abi"] = "softfp" if "android" in triple else "hard"
        features = sorted({*features, *(f"+{feature}" for feature in _ARMV7_FEATURES)})
    described["mcpu"] = target.cpu.core
    if features:
        described["mattr"] = features
    return described
