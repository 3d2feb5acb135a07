from __future__ import annotations

from pathlib import Path

import pytest

from bench.cpu.goals import geometric_mean, judge, ratios
from bench.cpu.jobs.start import Start
from bench.cpu.processor import Peak
from bench.cpu.results import Results, Row, load_results, save_results

NETS = ("small", "large")
PEAK = Peak(fp32_gops=100, int8_gops=200, int8_exact_gops=160)


def results_of(times: dict[tuple[str, str], float], precision: str = "fp32") -> Results:
    rows = [
        Row(
            model=net,
            precision=precision,
            target="x86-64-v3",
            threads=1,
            engine=engine,
            min_ms=ms,
            median_ms=ms,
        )
        for (net, engine), ms in times.items()
    ]
    return Results(
        code="a", target="x86-64-v3", peak=PEAK, macs={"small": 10**8, "large": 10**9}, rows=rows
    )


def test_a_ratio_says_how_many_times_faster_edgekit_is() -> None:
    results = results_of({("small", "edgekit"): 2.0, ("small", "onnxruntime"): 3.0})
    assert ratios(results, NETS, "fp32", 1, "onnxruntime") == {"small": 1.5}


def test_a_net_one_engine_did_not_run_has_no_ratio() -> None:
    results = results_of({("small", "edgekit"): 2.0, ("large", "onnxruntime"): 3.0})
    assert ratios(results, NETS, "fp32", 1, "onnxruntime") == {}


def test_the_geometric_mean_of_a_ratio_and_its_inverse_is_one() -> None:
    assert geometric_mean([4.0, 0.25]) == pytest.approx(1.0)


def test_a_missed_lead_names_the_share_of_the_peak_that_each_net_reaches() -> None:
    results = results_of({("small", "edgekit"): 4.0, ("small", "onnxruntime"): 4.4})
    mean, slowest = judge(results, NETS)
    assert not mean.is_met
    assert mean.found == pytest.approx(1.1)
    assert "small 50%" in str(mean.why)
    assert slowest.is_met
    assert slowest.why is None


def test_a_missed_int8_lead_names_the_peak_without_saturation() -> None:
    times = {("small", "edgekit"): 4.0, ("small", "onnxruntime"): 4.4}
    mean = judge(results_of(times, "int8"), NETS)[0]
    assert "without 16-bit saturation the peak is 160" in str(mean.why)


def test_a_start_is_judged_against_onnxruntime_of_the_same_net() -> None:
    results = results_of({})
    results.starts = {
        "small/fp32/edgekit": Start(first_result_ms=10.0, growth_mib=8.0),
        "small/fp32/onnxruntime": Start(first_result_ms=50.0, growth_mib=16.0),
        "large/fp32/edgekit": Start(first_result_ms=10.0, growth_mib=8.0),
    }
    faster, less = judge(results, NETS)
    assert (faster.found, faster.is_met) == (5.0, True)
    assert (less.found, less.is_met) == (2.0, False)


def test_results_of_other_code_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    save_results(results_of({("small", "edgekit"): 2.0}), path)
    assert load_results(path, "a").rows
    assert not load_results(path, "b").rows
