"""`python -m bench.arm`: executed instructions on emulated Raspberry Pis, and equal bits.

edgekit and onnxruntime run the same nets in the same emulator, one thread, a Raspberry Pi 4
(cortex-a72) and 5 (cortex-a76). Instructions know no caches and no issue width, so llvm-mca's
cycles of each library's busiest loops stand beside them. Results go to
`bench/results/cpu-arm.json`; a run that was interrupted goes on there, and what onnxruntime
executes is counted once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.arm.counting import Counting
from bench.arm.results import TARGETS, judge, print_table
from bench.nets.catalog import NETS, PRECISIONS
from bench.record import RESULTS


def main() -> None:
    """Count what is missing and print everything."""
    parser = argparse.ArgumentParser(prog="python -m bench.arm", description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--nets-folder", type=Path, default=Path("build/nets"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    counting = Counting(options.results / "cpu-arm.json", options.nets_folder)
    for net in options.nets:
        for precision in PRECISIONS:
            for target in TARGETS:
                counting.count(net, precision, target)
    counting.results.goals = [
        goal for target in TARGETS for goal in judge(counting.results, options.nets, target)
    ]
    counting.save()
    print_table(counting.results, options.nets)


if __name__ == "__main__":
    main()
