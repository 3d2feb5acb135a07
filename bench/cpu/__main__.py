"""`python -m bench.cpu`: edgekit against onnxruntime and OpenVINO on this x86 processor.

For each net: compiled, timed against the others in one process with one and two threads, started
from nothing, compared with the reference; on ResNets also what a second thread brings. Results go
to `bench/results/cpu-x86-PROCESSOR.json` after every measurement; a run that was interrupted goes
on there, a run after the compiler changed begins anew.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from pathlib import Path

from bench.cpu.goals import judge
from bench.cpu.measurements import Measurements
from bench.cpu.processor import TARGETS, can_run, measure_peak, slug
from bench.cpu.results import code_digest, load_results, save_results
from bench.cpu.table import print_results
from bench.nets.catalog import NETS, PRECISIONS
from bench.record import RESULTS, machine, versions


def main() -> None:
    """Measure what is missing and print everything."""
    options = _options()
    path = options.results / f"cpu-x86-{slug()}.json"
    results = load_results(path, code_digest())
    results.machine, results.versions = machine(), _versions(options.openvino)
    results.target = next(name for name in reversed(TARGETS) if can_run(name))
    results.is_realtime = options.realtime
    for target in TARGETS:
        if not can_run(target):
            results.not_measured[target] = "this processor lacks its instructions"
    results.peak = results.peak or measure_peak(results.target)
    measurements = Measurements(
        results,
        path,
        nets_folder=options.nets_folder,
        openvino=options.openvino,
        budget_s=options.budget_s,
    )
    for net in options.nets:
        for precision in PRECISIONS:
            measurements.measure(net, precision)
    results.goals = judge(results, options.nets)
    save_results(results, path)
    print_results(results, options.nets)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cpu", description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--nets-folder", type=Path, default=Path("build/nets"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--openvino",
        type=Path,
        help="where `pip install --target FOLDER openvino` put it; otherwise it takes part when "
        "it can be imported",
    )
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="let timed programs go before all others, on a machine that is not quiet; needs root",
    )
    parser.add_argument("--budget-s", type=float, default=5.0, help="seconds for each comparison")
    return parser.parse_args()


def _versions(openvino: Path | None) -> dict[str, str]:
    found = versions()
    if openvino is not None:
        for distribution in importlib.metadata.distributions(path=[str(openvino)]):
            if distribution.name == "openvino":
                found["openvino"] = distribution.version
    elif importlib.util.find_spec("openvino") is not None:
        found["openvino"] = importlib.metadata.version("openvino")
    return found


if __name__ == "__main__":
    main()
