"""Print results for people."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cpu.goals import geometric_mean, ratios
from bench.cpu.jobs.contenders import ENGINES
from bench.cpu.results import Results


def print_results(results: Results, nets: Sequence[str]) -> None:
    """Print times, ratios to edgekit's, geometric means and missed goals."""
    if results.peak is not None:
        peak = results.peak
        print(
            f"One core at best: fp32 {peak.fp32_gops:g}, int8 {peak.int8_gops:g}, "
            f"int8 without saturation {peak.int8_exact_gops:g} Gop/s\n"
        )
    for threads in (1, 2):
        for precision in ("fp32", "int8"):
            _print_block(results, nets, precision, threads)
    for key, reason in results.not_measured.items():
        print(f"not measured: {key}: {reason}")
    missed = [goal for goal in results.goals if not goal.is_met]
    print(f"\n{len(results.goals) - len(missed)} of {len(results.goals)} goals reached")
    for goal in missed:
        print(f"missed: {goal.goal}: {goal.found:g}, wanted {goal.wanted}; {goal.why or ''}")


def _print_block(results: Results, nets: Sequence[str], precision: str, threads: int) -> None:
    engines = [
        engine
        for engine in ENGINES
        if any(engine in results.times(net, precision, threads) for net in nets)
    ]
    if not engines:
        return
    print(f"{precision}, {threads} thread{'s' * (threads > 1)}: min / median ms (ratio of minima)")
    print(f"{'':18}" + "".join(f"{engine:>26}" for engine in engines))
    by_engine = {e: ratios(results, nets, precision, threads, e) for e in engines}
    for net in nets:
        times = results.times(net, precision, threads)
        cells = []
        for engine in engines:
            row, ratio = times.get(engine), by_engine[engine].get(net)
            text = f"{row.min_ms:.2f} / {row.median_ms:.2f}" if row else "-"
            cells.append(f"{text} ({ratio:.2f})" if ratio and engine != "edgekit" else text)
        print(f"{net:18}" + "".join(f"{cell:>26}" for cell in cells))
    means = [
        f"{geometric_mean(list(found.values())):.3f}" if found else "-"
        for found in by_engine.values()
    ]
    print(f"{'geometric mean':18}" + "".join(f"{mean:>26}" for mean in means) + "\n")
