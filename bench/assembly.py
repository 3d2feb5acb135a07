"""Look at generated code: the inner loops of an object file and what they cost by llvm-mca."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

_FUNCTION = re.compile(r"^[0-9a-f]+ <(?P<name>[^>]+)>:$")
_INSTRUCTION = re.compile(r"^\s*(?P<address>[0-9a-f]+):\s+(?P<text>\S.*?)\s*$")
_BRANCH = re.compile(r"^(?:b|b\.\w+|cbn?z|tbn?z)\s.*?(?P<target>0x[0-9a-f]+) <")
_ITERATIONS = 300
# llvm-mca knows Cortex-A76 by its twin for servers.
_MODELS = {"cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1"}
_LONG_PRODUCT = re.compile(r"^s(?:mull|mlal)2? v\d+\.(\d+)[hsd],")
_PRODUCTS = {"fmla": 4, "sdot": 16}


class Loop(msgspec.Struct, frozen=True):
    """Hold the instructions of a loop without branches inside."""

    function: str
    instructions: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Return multiply-adds of one round."""
        return sum(_products(line) for line in self.instructions)

    @property
    def stack_accesses(self) -> int:
        """Return how many instructions load from or store to the stack."""
        return sum("[sp" in line for line in self.instructions)

    def count(self, pattern: str) -> int:
        """Return how many instructions match."""
        return sum(re.search(pattern, line) is not None for line in self.instructions)


def _products(line: str) -> int:
    if long := _LONG_PRODUCT.match(line):
        return int(long[1])
    return _PRODUCTS.get(line.split()[0], 0)


def loops_of(object_file: Path) -> list[Loop]:
    """Return every innermost loop of an object file for 64-bit Arm."""
    command = [
        _tool("llvm-objdump"),
        "-d",
        "--mattr=+dotprod",
        "--no-show-raw-insn",
        str(object_file),
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions: dict[str, list[tuple[int, str]]] = {}
    name = ""
    for line in text.splitlines():
        if start := _FUNCTION.match(line):
            name = start["name"]
        elif found := _INSTRUCTION.match(line):
            place = int(found["address"], 16)
            functions.setdefault(name, []).append((place, found["text"].replace("\t", " ")))
    return [loop for name, lines in functions.items() for loop in _loops(name, lines)]


def hottest(loops: Sequence[Loop]) -> dict[str, Loop]:
    """Return each function's loop with the most multiply-adds."""
    found: dict[str, Loop] = {}
    for loop in loops:
        if loop.macs and loop.macs > found.get(loop.function, Loop("", ())).macs:
            found[loop.function] = loop
    return found


def cycles(loop: Loop, core: str) -> float:
    """Return the cycles of one round by llvm-mca, all loads hitting the L1 cache.

    Args:
        loop: The loop.
        core: `cortex-a72` or `cortex-a76`.
    """
    lines = [*loop.instructions[:-1], "nop"]  # llvm-mca does not follow branches
    command = [_tool("llvm-mca"), "-mtriple=aarch64", f"-mcpu={_MODELS[core]}"]
    command += ["-mattr=+dotprod", f"-iterations={_ITERATIONS}"]
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, check=True
    )
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    assert total is not None, done.stdout
    return int(total[1]) / _ITERATIONS


def _loops(function: str, lines: list[tuple[int, str]]) -> list[Loop]:
    found = []
    places = {address: number for number, (address, _) in enumerate(lines)}
    branches = {
        number: places.get(int(branch["target"], 16))
        for number, (_, text) in enumerate(lines)
        if (branch := _BRANCH.match(text))
    }
    for number, target in branches.items():
        if target is None or target > number:
            continue
        if any(target <= other < number for other in branches):
            continue
        body = tuple(text for _, text in lines[target : number + 1])
        found.append(Loop(function, body))
    return found


def _tool(name: str) -> str:
    for version in ("", "-19", "-18", "-16", "-15", "-14"):
        path = shutil.which(os.environ.get(name.upper().replace("-", "_"), name) + version)
        if path:
            return path
    raise SystemExit(f"{name} is not installed: apt-get install llvm")
