"""`python -m bench.cpu.jobs.start JOB`: from a file to the first result, and the memory that takes.

Importing the engine's Python package is not part of it: a product would not start Python.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import msgspec

from bench.cpu.jobs.child import reply
from bench.cpu.jobs.contenders import open_contender
from bench.cpu.jobs.memory import forget_peak, status_kib
from bench.nets.catalog import net_images

_PACKAGES = {
    "edgekit": "edgekit.devices.library",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


class StartJob(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to start.

    Args:
        model: Name of the net.
        engine: One contender.
        files: `onnx`, and edgekit's libraries by engine.
    """

    model: str
    engine: str
    files: dict[str, str]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a start took.

    Args:
        first_result_ms: From opening the file to the first result.
        growth_mib: Growth of resident memory, its peak above what Python held before.
    """

    first_result_ms: float
    growth_mib: float


def main(arguments: list[str]) -> None:
    """Start the engine of a job given as JSON."""
    job = msgspec.json.decode(arguments[0].encode(), type=StartJob)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    image = net_images(job.model, 1, 7)
    importlib.import_module(_PACKAGES[job.engine.partition("-")[0]])
    files = {name: Path(path) for name, path in job.files.items()}
    forget_peak()
    before = status_kib("VmRSS")
    begin = time.perf_counter()
    opened = open_contender(job.engine, files, image, num_threads=1)
    opened.run()
    seconds = time.perf_counter() - begin
    growth = status_kib("VmHWM") - before
    reply(Start(first_result_ms=round(seconds * 1e3, 2), growth_mib=round(growth / 1024, 2)))


if __name__ == "__main__":
    main(sys.argv[1:])
