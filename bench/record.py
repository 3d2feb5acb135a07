"""What every benchmark shares: the machine and versions it ran with, and its result file."""

from __future__ import annotations

import datetime
import json
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = "edgekit torch onnx onnxruntime apache-tvm ziglang torch-pruning neural-compressor"


def machine() -> dict[str, Any]:
    """Describe this computer."""
    from edgekit.core.target import cpu_model, host_cpu

    cpu = host_cpu()
    return {
        "cpu": cpu_model(),
        "level": cpu.core,
        "cores": cpu.cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter."""
    found = {}
    for name in PACKAGES.split():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command and return wall seconds, peak MiB of its largest process, and its output.

    The peak counts every process this one has waited for so far, so measure big things last.
    """
    started = time.monotonic()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return wall, peak, done.stdout


def save(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to `results/NAME.json`."""
    content = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(content, indent=2)
    (RESULTS / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    print(text)
