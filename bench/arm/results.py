"""The result file of emulated boards: instructions, equal bits, cycles of the busiest loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bench.cpu.goals import geometric_mean
from bench.cpu.results import Goal, Row
from bench.nets.catalog import PRECISIONS

TARGETS = ("rpi4", "rpi5")
"""The boards."""
_MEAN_LIMITS = {"fp32": 0.6, "int8": 0.75}
_NET_LIMIT = 0.85


class BusyLoop(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what llvm-mca says about the busiest loop of a kernel, loads hitting the L1 cache."""

    kernel: str
    cycles_per_mac: float
    macs: int
    stack_accesses: int


class ArmResults(msgspec.Struct, kw_only=True):
    """Hold the result file.

    Args:
        code: Digest of what decides edgekit's figures.
        machine: That emulates.
        versions: Of packages.
        rows: Instructions in millions.
        equals_reference: By `net/int8/target`: all bits equal the numpy reference's.
        difference_of_range: By `net/fp32/target`: from onnxruntime in the same emulator.
        loops: By `net/precision/target`.
        not_measured: What has no figure, and why.
        goals: Numbers to reach.
    """

    code: str = ""
    machine: dict[str, Any] = msgspec.field(default_factory=dict)
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    rows: list[Row] = msgspec.field(default_factory=list)
    equals_reference: dict[str, bool] = msgspec.field(default_factory=dict)
    difference_of_range: dict[str, float] = msgspec.field(default_factory=dict)
    loops: dict[str, list[BusyLoop]] = msgspec.field(default_factory=dict)
    not_measured: dict[str, str] = msgspec.field(default_factory=dict)
    goals: list[Goal] = msgspec.field(default_factory=list)

    def instructions(self, net: str, precision: str, target: str, engine: str) -> float | None:
        """Return millions of instructions of an inference; None when they were not counted."""
        wanted = (net, precision, target, engine)
        for row in self.rows:
            if (row.model, row.precision, row.target, row.engine) == wanted:
                return row.instructions_m
        return None


def judge(results: ArmResults, nets: Sequence[str], target: str) -> list[Goal]:
    """Return the goals of one board for which there are figures."""
    goals = []
    for precision, limit in _MEAN_LIMITS.items():
        shares = _shares(results, nets, precision, target)
        if not shares:
            continue
        over = f"{target} {precision}: instructions over onnxruntime's"
        mean, worst = geometric_mean(list(shares.values())), max(shares, key=lambda n: shares[n])
        goals.append(_at_most(f"{over}, geometric mean", limit, mean))
        goals.append(_at_most(f"{over}, worst net {worst}", _NET_LIMIT, shares[worst]))
    equal = {k: v for k, v in results.equals_reference.items() if k.endswith(target)}
    goals += [
        Goal(
            goal=f"{place}: bits equal the reference's",
            wanted=">= 1",
            found=float(same),
            is_met=same,
        )
        for place, same in equal.items()
    ]
    return goals


def print_table(results: ArmResults, nets: Sequence[str]) -> None:
    """Print instructions, shares and missed goals."""
    for target in TARGETS:
        for precision in PRECISIONS:
            print(f"{target} {precision}: millions of instructions, edgekit / onnxruntime (share)")
            for net, share in _shares(results, nets, precision, target).items():
                ours = results.instructions(net, precision, target, "edgekit")
                theirs = results.instructions(net, precision, target, "onnxruntime")
                print(f"  {net:18} {ours:9.1f} / {theirs:9.1f} ({share:.2f})")
    for place, reason in results.not_measured.items():
        print(f"not measured: {place}: {reason}")
    for goal in results.goals:
        if not goal.is_met:
            print(f"missed: {goal.goal}: {goal.found:g}, wanted {goal.wanted}")


def _shares(
    results: ArmResults, nets: Sequence[str], precision: str, target: str
) -> dict[str, float]:
    found = {}
    for net in nets:
        ours = results.instructions(net, precision, target, "edgekit")
        theirs = results.instructions(net, precision, target, "onnxruntime")
        if ours and theirs:
            found[net] = ours / theirs
    return found


def _at_most(goal: str, wanted: float, found: float) -> Goal:
    return Goal(goal=goal, wanted=f"<= {wanted:g}", found=round(found, 3), is_met=found <= wanted)
