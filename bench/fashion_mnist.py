"""The Fashion-MNIST recipes for an emulated Raspberry Pi 4: accuracy, size, host against device.

    python bench/fashion_mnist.py [fashion-mnist-resnet|fashion-mnist-mobilenet ...]

Uses the ordinary store, so that an interrupted run goes on where it stopped. About 20 minutes for
both recipes on two cores.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any

from record import save, timed

RECIPES = ("fashion-mnist-resnet", "fashion-mnist-mobilenet")


def main() -> None:
    """Build each recipe and keep what its report says."""
    for recipe in sys.argv[1:] or RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "edgekit", "build", "-r", recipe, "-t", "rpi4"]
            text = timed([*command, "-o", folder, "--json"], dict(os.environ))[2]
        save(recipe, figures(json.loads(text.splitlines()[-1])["report"]))


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that README states."""
    stages = {stage["label"]: stage for stage in report["stages"]}
    values = {
        label: {metric["name"]: metric["value"] for metric in stage["metrics"]}
        for label, stage in stages.items()
    }
    seconds = {label: stage["duration_s"] for label, stage in stages.items()}
    trained = "distill" if "distill" in values else "train"
    before, after, int8 = values[trained], values["prune"], values["quantize"]
    return {
        "top-1": {k: round(v["top-1"], 4) for k, v in values.items() if "top-1" in v},
        "macs": {k: int(v["macs"]) for k, v in values.items() if "macs" in v},
        "size_bytes": {k: int(v["size_bytes"]) for k, v in values.items() if "size_bytes" in v},
        "macs_removed": round(1 - after["macs"] / before["macs"], 4),
        "lost_by_pruning": round(before["top-1"] - after["top-1"], 4),
        "lost_by_int8": round(after["top-1"] - int8["top-1"], 4),
        "size_ratio_int8_to_fp32": round(int8["size_bytes"] / before["size_bytes"], 4),
        "engines": report["engines"],
        "host_and_device_differ": report["mismatches"],
        "device": report["device"],
        "verdicts": report["verdicts"],
        "stages_s": seconds,
    }


if __name__ == "__main__":
    main()
