from __future__ import annotations

import pytest

from edgekit.compiler.aot.c_model import check_name
from edgekit.compiler.aot.toolchain import toolchain_for
from edgekit.core.errors import InputError
from edgekit.core.target import Cpu, Os, Target


def target(isa: str, triple: str, *features: str, glibc: str | None = None) -> Target:
    cpu = Cpu(isa=isa, core="generic", features=features)  # type: ignore[arg-type]
    return Target(name="t", cpu=cpu, os=Os(triple=triple, glibc=glibc))


@pytest.mark.parametrize(
    ("isa", "triple", "llvm", "zig"),
    [
        ("x86_64", "x86_64-linux-gnu", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu.2.28"),
        ("aarch64", "aarch64-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu.2.28"),
        (
            "armv7",
            "armv7-linux-gnueabihf",
            "armv7-unknown-linux-gnueabihf",
            "arm-linux-gnueabihf.2.28",
        ),
        ("aarch64", "aarch64-linux-musl", "aarch64-unknown-linux-musl", "aarch64-linux-musl"),
        ("aarch64", "aarch64-linux-android", "aarch64-unknown-linux-android", "aarch64-linux-musl"),
    ],
)
def test_triples_in_both_tongues(isa: str, triple: str, llvm: str, zig: str) -> None:
    toolchain = toolchain_for(target(isa, triple, glibc="2.28"))
    assert (toolchain.llvm["mtriple"], toolchain.zig) == (llvm, zig)


def test_android_vendor_is_spelled_out_however_the_target_writes_it() -> None:
    short = toolchain_for(target("aarch64", "aarch64-linux-android"))
    long = toolchain_for(target("aarch64", "aarch64-unknown-linux-android"))
    assert short == long
    assert short.is_android


def test_features_and_vector_width_follow_the_target() -> None:
    wide = toolchain_for(target("x86_64", "x86_64-linux-gnu", "avx512f", "avx2"))
    assert wide.llvm["mattr"] == ["+avx2", "+avx512f"]
    assert (wide.lanes, wide.num_registers) == (16, 32)
    assert toolchain_for(target("x86_64", "x86_64-linux-gnu", "avx2")).num_registers == 16
    assert toolchain_for(target("aarch64", "aarch64-linux-gnu")).lanes == 4


def test_half_precision_goes_by_the_name_that_llvm_has_for_the_core() -> None:
    wide = toolchain_for(target("aarch64", "aarch64-linux-gnu", "fp16", "dotprod"))
    assert wide.llvm["mattr"] == ["+dotprod", "+fullfp16"]
    assert "+fp16" in toolchain_for(target("armv7", "armv7-linux-gnueabihf", "fp16")).llvm["mattr"]


def test_static_libc_has_no_shared_libraries() -> None:
    assert not toolchain_for(target("aarch64", "aarch64-linux-musl")).has_shared
    assert toolchain_for(target("aarch64", "aarch64-linux-android")).has_shared


def test_other_systems_are_refused() -> None:
    with pytest.raises(InputError, match="found triple 'x86_64-pc-windows-msvc'"):
        toolchain_for(target("x86_64", "x86_64-pc-windows-msvc"))


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a b", "modèle", "ek_model", 'x";evil'])
def test_names_c_would_not_take_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="naming the compiled model"):
        check_name(name)
