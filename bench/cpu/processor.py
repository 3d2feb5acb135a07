"""What this x86 processor is: its name for result files, its targets, its measured peak."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import msgspec

_SOURCE = Path(__file__).with_name("peak.c")
_ZIG_CPUS = {"x86-64-v3": "x86_64_v3", "x86-64-v4-vnni": "cascadelake"}
TARGETS = tuple(_ZIG_CPUS)
"""The x86 targets that are benchmarked."""


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """State what one core does at best, in billions of operations per second.

    A multiply-add counts as two. int8: vpdpbusd, or vpmaddubsw + vpmaddwd + vpaddd, which saturate
    in 16 bits; int8_exact: without saturation, with vpsignb besides.
    """

    fp32_gops: float
    int8_gops: float
    int8_exact_gops: float


class _Core(NamedTuple):
    vendor: str
    family: int
    model: int
    stepping: int


# Source: AMD's revision guides and Intel's list of processor signatures.
_CORES = (
    ("zen2", "AuthenticAMD", 23, (0x30, 0xFF)),
    ("zen3", "AuthenticAMD", 25, (0x00, 0x0F)),
    ("zen4", "AuthenticAMD", 25, (0x10, 0x1F)),
    ("zen3", "AuthenticAMD", 25, (0x20, 0x5F)),
    ("zen4", "AuthenticAMD", 25, (0x60, 0xAF)),
    ("zen5", "AuthenticAMD", 26, (0x00, 0xFF)),
    ("skylake-or-cascade-lake", "GenuineIntel", 6, (85, 85)),
    ("ice-lake", "GenuineIntel", 6, (106, 108)),
    ("sapphire-rapids", "GenuineIntel", 6, (143, 143)),
    ("emerald-rapids", "GenuineIntel", 6, (207, 207)),
)


def slug() -> str:
    """Return a name such as `amd-epyc-zen3-avx2`, for result files."""
    fields = _cpuinfo()
    core = _Core(
        fields["vendor_id"], *(int(fields[key]) for key in ("cpu family", "model", "stepping"))
    )
    known = [
        name
        for name, vendor, family, (low, high) in _CORES
        if (vendor, family) == (core.vendor, core.family) and low <= core.model <= high
    ]
    kind = known[0] if known else f"family{core.family}-model{core.model}"
    vector = "vnni" if can_run("x86-64-v4-vnni") else "avx2"
    brand = re.sub(r"\((R|TM)\)|@.*|CPU|Processor", "", fields["model name"])
    words = re.findall(r"[a-z0-9.]+", f"{brand} {kind} {vector}".lower())
    return "-".join(words)


def can_run(target: str) -> bool:
    """Tell whether this processor has every feature of a target."""
    from edgekit.core.target import host_cpu, load_target

    return set(load_target(target).cpu.features) <= set(host_cpu().features)


def measure_peak(target: str) -> Peak:
    """Measure what one core does at best with the instructions of a target."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        compiler = [sys.executable, "-m", "ziglang", "cc", "-O2", f"-mcpu={_ZIG_CPUS[target]}"]
        subprocess.run([*compiler, str(_SOURCE), "-o", str(program)], check=True)
        done = subprocess.run([program], capture_output=True, text=True, check=True)
    floats, levels, exact = map(float, done.stdout.split())
    return Peak(fp32_gops=floats, int8_gops=levels, int8_exact_gops=exact)


def _cpuinfo() -> dict[str, str]:
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
