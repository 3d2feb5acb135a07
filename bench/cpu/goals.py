"""The numbers to reach, judged on what was measured; a missed one says how far and why.

Speed is judged on minima: other work on the machine only adds time. Medians stand in the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.cpu.results import Goal, Results

_LEADS = {"fp32": 1.3, "int8": 1.4}
_OPENVINO_LEAD = 1.0
_INT8_LEAD = 1.8
_NEARLY = 0.98
_SCALING = 0.9
_FASTER_START, _LESS_MEMORY = 4.0, 2.5
_COMPILE_S, _COMPILE_MIB = 15.0, 2048.0
_FLOAT_DIFFERENCE = 1e-4
_LIBRARY_SHARE, _LIBRARY_BYTES = 1.15, 1 << 20


def judge(results: Results, nets: Sequence[str]) -> list[Goal]:
    """Return every goal for which there are figures."""
    return [
        *_speed(results, nets),
        *_int8_over_fp32(results, nets),
        *_second_thread(results),
        *_start(results),
        *_compilation(results),
        *_correctness(results),
    ]


def ratios(
    results: Results, nets: Sequence[str], precision: str, threads: int, engine: str
) -> dict[str, float]:
    """Return by net how many times faster edgekit is than an engine, on minima."""
    found = {}
    for net in nets:
        times = results.times(net, precision, threads)
        ours, other = times.get("edgekit"), times.get(engine)
        if ours and other and ours.min_ms and other.min_ms:
            found[net] = other.min_ms / ours.min_ms
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _speed(results: Results, nets: Sequence[str]) -> Iterator[Goal]:
    for threads in (1, 2):
        for precision, lead in _LEADS.items():
            engines = {"onnxruntime": lead, "onnxruntime-exact": lead, "openvino": _OPENVINO_LEAD}
            for engine, wanted in engines.items():
                found = ratios(results, nets, precision, threads, engine)
                if not found:
                    continue
                over = f"{precision}, {threads} thread{'s' * (threads > 1)}, over {engine}"
                mean = geometric_mean(list(found.values()))
                slowest = min(found, key=lambda net: found[net])
                why = _roofline(results, list(found), precision, threads)
                yield _at_least(f"{over}: geometric mean", wanted, mean, why)
                yield _at_least(f"{over}: slowest net, {slowest}", 1.0, found[slowest], why)


def _roofline(results: Results, nets: Sequence[str], precision: str, threads: int) -> str:
    """Say what share of the machine's peak each net reaches, direct multiply-adds counted."""
    assert results.peak is not None
    peak = results.peak.int8_gops if precision == "int8" else results.peak.fp32_gops
    shares = []
    for net in nets:
        ours = results.times(net, precision, threads)["edgekit"].min_ms or math.inf
        gops = 2 * results.macs[net] / ours / 1e6
        shares.append(f"{net} {gops / (peak * threads):.0%}")
    text = f"of the measured peak of {peak * threads:.0f} Gop/s: {', '.join(shares)}"
    exact = results.peak.int8_exact_gops
    if precision == "int8" and exact < _NEARLY * peak:
        text += f"; without 16-bit saturation the peak is {exact * threads:.0f}"
    return text


def _int8_over_fp32(results: Results, nets: Sequence[str]) -> Iterator[Goal]:
    if "vnni" not in results.target:
        return
    for net in nets:
        real, levels = results.times(net, "fp32", 1), results.times(net, "int8", 1)
        direct, ours = real.get("edgekit-direct") or real.get("edgekit"), levels.get("edgekit")
        if direct and ours and direct.min_ms and ours.min_ms:
            why = _roofline(results, [net], "int8", 1)
            ratio = direct.min_ms / ours.min_ms
            yield _at_least(f"{net}: int8 over direct fp32", _INT8_LEAD, ratio, why)


def _second_thread(results: Results) -> Iterator[Goal]:
    for key, scaling in results.scaling.items():
        why = (
            f"two processes reach {scaling.processes_scaling}, "
            f"two threads {scaling.threads_scaling} times the speed of one"
        )
        yield _at_least(
            f"{key}: scaling of 2 threads over that of 2 processes", _SCALING, scaling.ratio, why
        )


def _start(results: Results) -> Iterator[Goal]:
    for key, ours in results.starts.items():
        net, _, engine = key.rpartition("/")
        other = results.starts.get(f"{net}/onnxruntime")
        if engine != "edgekit" or other is None:
            continue
        faster = other.first_result_ms / ours.first_result_ms
        why = f"{ours.first_result_ms} ms against {other.first_result_ms} ms"
        yield _at_least(f"{net}: start to first result", _FASTER_START, faster, why)
        less = other.growth_mib / max(ours.growth_mib, 1e-3)
        why = f"{ours.growth_mib} MiB against {other.growth_mib} MiB"
        yield _at_least(f"{net}: memory growth", _LESS_MEMORY, less, why)


def _compilation(results: Results) -> Iterator[Goal]:
    for key, built in results.libraries.items():
        if key in {"resnet18/fp32", "resnet18/int8"}:
            yield _at_most(f"{key}: seconds to compile", _COMPILE_S, built.compile_s)
            yield _at_most(f"{key}: MiB to compile", _COMPILE_MIB, built.compile_peak_mib)
        limit = _LIBRARY_SHARE * built.onnx_bytes + _LIBRARY_BYTES
        if built.winograd_kernels:
            continue  # it multiplies its layers' weights
        share = built.library_bytes / limit * _LIBRARY_SHARE
        goal = f"{key}: library size over weights and 1 MiB"
        yield _at_most(goal, _LIBRARY_SHARE, share)


def _correctness(results: Results) -> Iterator[Goal]:
    for key, compared in results.outputs.items():
        if compared.equals_reference is None:
            yield _at_most(
                f"{key}: difference over the output's range",
                _FLOAT_DIFFERENCE,
                compared.difference_of_range,
            )
        else:
            same = float(compared.equals_reference)
            yield _at_least(f"{key}: bits equal the reference's", 1.0, same)


def _at_least(goal: str, wanted: float, found: float, why: str = "") -> Goal:
    is_met = found >= wanted
    return Goal(goal=goal, wanted=f">= {wanted:g}", found=round(found, 3), is_met=is_met,
                why=None if is_met else why or None)  # fmt: skip


def _at_most(goal: str, wanted: float, found: float, why: str = "") -> Goal:
    is_met = found <= wanted
    shown = float(f"{found:.4g}")
    return Goal(goal=goal, wanted=f"<= {wanted:g}", found=shown, is_met=is_met,
                why=None if is_met else why or None)  # fmt: skip
