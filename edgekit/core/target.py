"""Targets: where a model will run, as facts that compilers and stages may read."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgekit.core.assets import asset_folders, find_asset
from edgekit.core.errors import InputError
from edgekit.core.files import read_json
from edgekit.core.options import Meta, Options
from edgekit.core.schema import resolve_document
from edgekit.core.yaml_file import Document, load_yaml

Isa = Literal["x86_64", "aarch64", "armv7"]
_PROC_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_X86_FEATURES = {
    "sse4_2": "sse4.2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "bmi1": "bmi",
    "bmi2": "bmi2",
    "abm": "lzcnt",
    "movbe": "movbe",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512vnni",
    "avx_vnni": "avxvnni",
}
_ARM_FEATURES = {"asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16", "i8mm": "i8mm"}


class Cpu(Options, frozen=True, kw_only=True):
    """State the facts of a processor."""

    isa: Annotated[Isa, Meta(description="Instruction set")]
    core: Annotated[str, Meta(description="Core by LLVM's name, such as cortex-a72")]
    cores: Annotated[int, Meta(ge=1, le=1024, description="Number of cores")] = 1
    clock_ghz: Annotated[float, Meta(gt=0, le=10, description="Nominal clock")] | None = None
    features: Annotated[tuple[str, ...], Meta(description="Features by LLVM's names")] = ()
    caches_kib: Annotated[dict[str, int], Meta(description="l1d, l2, l3 per core or shared")] = (
        msgspec.field(default_factory=dict)
    )


class Os(Options, frozen=True, kw_only=True):
    """State what binaries must be linked for."""

    triple: Annotated[str, Meta(description="Such as aarch64-linux-gnu", max_length=64)]
    glibc: Annotated[str, Meta(description="Oldest glibc on the device", pattern=r"^2\.\d+$")] | (
        None
    ) = None
    api_level: Annotated[int, Meta(ge=21, le=99, description="Android API level")] | None = None


class TileTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what `edgekit tune` measured; written to targets/tiles/NAME.json.

    Args:
        target: Name of the target.
        device: What it was measured on.
        unit: What was minimised: `us`, or `instructions` in an emulator.
        tiles: The best tile of each layer's key.
        gains: How much faster than the analytic choice each of them is, as a ratio.
    """

    target: str
    device: str
    unit: Literal["us", "instructions"]
    tiles: dict[str, str]
    gains: dict[str, float]
    schema: Literal[1] = 1


class Target(Options, frozen=True, kw_only=True):
    """Describe one kind of device; read from targets/NAME.yaml."""

    name: str
    cpu: Cpu
    os: Os
    description: str = ""
    memory_mib: Annotated[int, Meta(ge=1, description="Memory of the device")] | None = None
    dtypes: tuple[Literal["fp32", "fp16", "int8"], ...] = ("fp32", "int8")
    engines: Annotated[
        tuple[str, ...], Meta(min_length=1, description="In order of preference, untimed")
    ] = ("tvm", "onnxruntime")
    runner: Annotated[str, Meta(description="Runner URI when none is named, or none")] = "none"
    tiles: Annotated[dict[str, str], Meta(description="Measured kernel tiles, by layer")] = (
        msgspec.field(default_factory=dict)
    )

    @property
    def simd_bytes(self) -> int:
        """Return the width of a vector register in bytes."""
        if self.cpu.isa != "x86_64":
            return 16
        if "avx512f" in self.cpu.features:
            return 64
        return 32 if "avx2" in self.cpu.features else 16

    @property
    def simd_lanes(self) -> int:
        """Return how many float32 channels fill a vector: what `round_to: simd` rounds to."""
        return self.simd_bytes // 4


def load_target(name: str) -> Target:
    """Read a target by name or path; `cpu: host` stands for this machine's processor.

    Raises:
        InputError: Unknown name, or a file that does not fit.
    """
    path = find_asset("targets", name)
    document = load_yaml(path)
    value = check_version(document)
    if value.get("cpu") == "host":
        value["cpu"] = host_cpu()
        if host_cpu().isa == "aarch64" and value.get("os") == {"triple": "x86_64-linux-gnu"}:
            value["os"] = {"triple": "aarch64-linux-gnu"}
    if "tiles" not in value:
        value["tiles"] = _measured_tiles(path)
    document = document._replace(value=value)
    return resolve_document(document, Target, name=path.stem)


def tile_file(name: str, folder: Path) -> Path:
    """Return where the measured tiles of a target lie: `tiles/NAME.json` beside its file."""
    return folder / "tiles" / f"{name}.json"


def _measured_tiles(path: Path) -> dict[str, str]:
    """Read the tiles measured for a target: the user's own before those that are shipped."""
    folders = (path.parent, *asset_folders("targets"))
    for folder in folders:
        file = tile_file(path.stem, folder)
        if file.is_file():
            return read_json(file, TileTable).tiles
    return {}


def check_version(document: Document) -> dict[str, object]:
    """Return the document without its `edgekit: 1` line, or refuse another version."""
    if not isinstance(document.value, dict):
        raise InputError(f"{document.path}", found="no mapping", expected="a YAML mapping")
    value = dict(document.value)
    version = value.pop("edgekit", None)
    if version != 1:
        raise InputError(
            f"{document.path}: the format version",
            found=str(version) if version is not None else "no `edgekit:` line",
            expected="`edgekit: 1` at the top",
        )
    return value


@functools.cache
def host_cpu() -> Cpu:
    """Read this machine's processor from /proc/cpuinfo."""
    machine = platform.machine()
    isa: Isa = {"aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7"}.get(  # type: ignore[assignment]
        machine, "x86_64"
    )
    fields = _cpuinfo()
    flags = fields.get("flags", fields.get("features", "")).split()
    names = _X86_FEATURES if isa == "x86_64" else _ARM_FEATURES
    features = tuple(llvm for flag, llvm in names.items() if flag in flags)
    return Cpu(
        isa=isa,
        core=_host_core(isa, features),
        cores=_num_cores(),
        features=features,
        caches_kib=_host_caches(),
    )


def cpu_model() -> str:
    """Return the processor's own name."""
    fields = _cpuinfo()
    return fields.get("model name", fields.get("cpu part", platform.machine()))


def _host_core(isa: Isa, features: tuple[str, ...]) -> str:
    # Levels, not marketing names: the same code runs on every CPU that has the features, and
    # LLVM knows each level by name.
    if isa != "x86_64":
        return "generic"
    have = set(features)
    if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= have:
        return "cascadelake" if "avx512vnni" in have else "skylake-avx512"
    if {"avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"} <= have:
        return "x86-64-v3"
    return "x86-64-v2" if "sse4.2" in have else "x86-64"


def _num_cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _host_caches() -> dict[str, int]:
    """Read the data caches of one core in KiB; empty where the system does not tell."""
    found = {}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K") and size[:-1].isdigit():
            found["l1d" if level == "1" else f"l{level}"] = int(size[:-1])
    return found


def _cpuinfo() -> dict[str, str]:
    try:
        lines = _PROC_CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    found: dict[str, str] = {}
    for key, colon, value in pairs:
        if colon:
            found.setdefault(key.strip().lower(), value.strip())
    return found
