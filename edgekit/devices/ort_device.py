"""The device program for engine onnxruntime: runs an ONNX model on the files a job names.

    python ort_device.py JOB.json RESULT.json

It stands alone (numpy and onnxruntime, nothing of edgekit), because it also runs where only those
are installed, and follows the same protocol as the device executable written in C. Exit status 0:
the result holds figures. 1: it holds an error. 2: it could not be written.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

JOB_BYTES_LIMIT = 1 << 20
MARK_WHICH = 0x656B
MARKING = "EDGEKIT_MARK" in os.environ
COUNTS = frozenset({"num_items", "warmup_runs", "num_runs", "num_threads"})
FIELDS = COUNTS | {"schema", "engine", "model", "inputs", "outputs", "mode"}
INPUT_FIELDS = frozenset({"name", "file", "dtype", "shape"})
INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
ORT_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"} | {
    f"tensor({name})": name for name in ("bool", "float16", *INTEGERS)
}

# onnxruntime ships no types, and numpy is loaded only once the job is known to make sense.
Session: TypeAlias = Any
Binding: TypeAlias = Any
Node: TypeAlias = Any
Array: TypeAlias = Any


class JobError(Exception):
    """Say why a job cannot be done."""


class Input(NamedTuple):
    """Hold one input: `items` is a read-only array with one item per row."""

    name: str
    items: Array


def main(arguments: list[str]) -> int:
    """Run the job and write its result; return the exit status."""
    if len(arguments) != 2:
        print("usage: ort_device.py JOB.json RESULT.json", file=sys.stderr)
        return 2
    job_file, result_file = Path(arguments[0]).absolute(), Path(arguments[1]).absolute()
    die_with_parent()
    try:
        result = run_job(read_job(job_file), job_file.parent)
    except Exception as error:
        name = "" if isinstance(error, JobError) else f"{type(error).__name__}: "
        result = {"schema": 1, "status": "error", "error": f"{name}{error}"[:4000]}
    try:
        partial = result_file.with_name(result_file.name + ".part")
        partial.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
        partial.replace(result_file)
    except OSError as error:
        print(f"cannot write {result_file}: {error}", file=sys.stderr)
        return 2
    return 0 if result["status"] == "ok" else 1


def read_job(path: Path) -> dict[str, Any]:
    """Read and check the fields of a job."""
    try:
        with path.open("rb") as file:
            content = file.read(JOB_BYTES_LIMIT + 1)
        job = json.loads(content) if len(content) <= JOB_BYTES_LIMIT else None
    except (OSError, ValueError, RecursionError) as error:
        raise JobError(f"job: {error}") from error
    if not isinstance(job, dict):
        raise JobError("job: not an object, or too large")
    if set(job) != FIELDS:
        raise JobError(f"job: missing or unknown fields {sorted(set(job) ^ FIELDS)}")
    if job["schema"] != 1 or job["engine"] != "onnxruntime":
        raise JobError("job: this program runs schema 1 of engine 'onnxruntime' only")
    if job["mode"] not in ("outputs", "latency", "steps"):
        raise JobError("job: mode must be outputs, latency or steps")
    least_runs = 0 if job["mode"] == "outputs" else 1
    check_integer(job, "num_items", 1, 10_000_000)
    check_integer(job, "warmup_runs", 0, 1_000_000)
    check_integer(job, "num_runs", least_runs, 1_000_000)
    check_integer(job, "num_threads", 1, 256)
    return job


def check_integer(job: dict[str, Any], key: str, low: int, high: int) -> None:
    """Refuse a field that is no integer within its bounds."""
    value = job[key]
    if type(value) is not int or not low <= value <= high:
        raise JobError(f"job: '{key}' must be an integer in {low}..{high}")


def inside(folder: Path, path: object) -> Path:
    """Return a path named in the job, which lies below the job's folder and is no link."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise JobError(f"job: {path!r} must be a path below the job's folder")
    place = folder
    for part in parts:
        place = place / part
        if place.is_symlink():
            raise JobError(f"job: '{path}' goes through a link")
    return place


def run_job(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run every item once, then the timed runs, and return the result."""
    model = inside(folder, job["model"])
    if not model.is_file():
        raise JobError(f"job: no model '{job['model']}'")
    import onnxruntime  # noqa: F401 - so that loading the model isn't charged with it

    start = time.perf_counter_ns()
    session = open_model(model, job)
    load_us = (time.perf_counter_ns() - start) / 1e3
    inputs = [read_input(item, folder) for item in checked_inputs(job, session)]
    before = cpu_state()
    outputs, first_run_us = run_items(session, inputs, job, folder)
    times = [] if job["mode"] == "outputs" else run_counted(session, inputs, job)
    return {
        "schema": 1,
        "status": "ok",
        "outputs": outputs,
        "times_us": times if job["mode"] == "latency" else [],
        "first_run_us": first_run_us,
        "load_us": load_us,
        "peak_rss_kib": peak_rss_kib(),
        "threads": job["num_threads"],
        "steps": node_times(session, job) if job["mode"] == "steps" else None,
        "device": device_state(before),
    }


def open_model(model: Path, job: dict[str, Any]) -> Session:
    """Open a session with the job's threads; in mode `steps` it records node times."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["num_threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # x86 without VNNI adds uint8 x int8 products in 16 bits, which saturate: results would differ
    # from every other processor's. No effect where sums are exact anyway.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if job["mode"] == "steps":
        options.enable_profiling = True
        options.profile_file_prefix = str(model.parent / "profile")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def checked_inputs(job: dict[str, Any], session: Session) -> list[dict[str, Any]]:
    """Return the job's inputs in the model's order, with fields, dtype and shape that fit it."""
    given = job["inputs"]
    if not isinstance(given, list) or not all(
        isinstance(item, dict) and set(item) == INPUT_FIELDS for item in given
    ):
        raise JobError("job: 'inputs' must be objects with name, file, dtype and shape")
    by_name = {str(item["name"]): item for item in given}
    wanted = session.get_inputs()
    names = [node.name for node in wanted]
    if len(given) != len(wanted) or set(by_name) != set(names):
        raise JobError(f"job: inputs are {sorted(by_name)}, the model's are {sorted(names)}")
    for node in wanted:
        check_input(by_name[node.name], node, job["num_items"])
    return [by_name[name] for name in names]


def check_input(item: dict[str, Any], node: Node, num_items: int) -> None:
    """Refuse an input whose dtype or shape differs from the model's."""
    dtype = ORT_TYPES.get(node.type)
    if item["dtype"] != dtype:
        raise JobError(f"job: input '{node.name}' is {item['dtype']}, the model takes {dtype}")
    shape = item["shape"]
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise JobError(f"job: the shape of input '{node.name}' is not made of positive integers")
    fits = len(shape) == len(node.shape) > 0 and all(
        not isinstance(size, int) or size == found
        for size, found in zip(node.shape[1:], shape[1:], strict=True)
    )
    batch = node.shape[0] if node.shape else None
    if not fits or (isinstance(batch, int) and batch != 1):
        raise JobError(f"job: input '{node.name}' doesn't have the model's shape")
    if shape[0] != num_items:
        raise JobError(f"job: input '{node.name}' has {shape[0]} items, num_items is {num_items}")


def read_input(item: dict[str, Any], folder: Path) -> Input:
    """Map an input file into memory, one item per row."""
    import numpy as np

    path = inside(folder, item["file"])
    dtype = np.dtype(item["dtype"]).newbyteorder("<")
    bytes_wanted = dtype.itemsize
    for size in item["shape"]:
        bytes_wanted *= size
    if not path.is_file() or path.stat().st_size != bytes_wanted:
        raise JobError(f"job: file '{item['file']}' doesn't have {bytes_wanted} bytes")
    return Input(item["name"], np.memmap(path, dtype, mode="r", shape=tuple(item["shape"])))


def run_items(
    session: Session, inputs: list[Input], job: dict[str, Any], folder: Path
) -> tuple[list[dict[str, Any]], float]:
    """Run every item once and write the outputs; return their descriptions and the first time."""
    place = inside(folder, job["outputs"])
    place.mkdir(parents=True, exist_ok=True)
    names = [node.name for node in session.get_outputs()]
    first_run_us: float | None = None
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((place / f"{i}.bin").open("wb")) for i in range(len(names))]
        for index in range(job["num_items"]):
            arrays, duration = run_item(session, inputs, index)
            first_run_us = duration if first_run_us is None else first_run_us
            for file, name, array in zip(files, names, arrays, strict=True):
                if kinds.setdefault(name, kind_of(name, array)) != kind_of(name, array):
                    raise JobError(f"output '{name}' changes its shape between items")
                file.write(array.tobytes())
    outputs = [
        {
            "name": name,
            "file": f"{job['outputs']}/{i}.bin",
            "dtype": kinds[name][0],
            "shape": [job["num_items"], *kinds[name][1]],
        }
        for i, name in enumerate(names)
    ]
    return outputs, first_run_us or 0.0


def run_item(session: Session, inputs: list[Input], index: int) -> tuple[list[Array], float]:
    """Run one item; return the outputs and the duration in microseconds."""
    import numpy as np

    feed = {given.name: np.array(given.items[index : index + 1]) for given in inputs}
    mark()
    start = time.perf_counter_ns()
    arrays = session.run(None, feed)
    duration = (time.perf_counter_ns() - start) / 1e3
    mark()
    return arrays, duration


def kind_of(name: str, array: Array) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of one item of an output."""
    dtype = str(getattr(array, "dtype", "object"))
    if dtype not in ORT_TYPES.values():
        raise JobError(f"output '{name}' is {dtype}, which cannot travel")
    if array.ndim < 1 or array.shape[0] != 1:
        raise JobError(f"output '{name}' has shape {array.shape}, must start with a batch of 1")
    return dtype, tuple(array.shape[1:])


def run_counted(session: Session, inputs: list[Input], job: dict[str, Any]) -> list[float]:
    """Run the warm-up and the counted runs, cycling through the items; return microseconds.

    Inputs and outputs are bound beforehand, so that a run costs what the engine costs and not
    what Python's wrapper around it does.
    """
    times = []
    last, binding = -1, None
    for i in range(job["warmup_runs"] + job["num_runs"]):
        index = i % job["num_items"]
        if index != last:
            binding, last = bind(session, inputs, index), index
        mark()
        start = time.perf_counter_ns()
        session.run_with_iobinding(binding)
        duration = (time.perf_counter_ns() - start) / 1e3
        mark()
        if i >= job["warmup_runs"]:
            times.append(duration)
    return times


def bind(session: Session, inputs: list[Input], index: int) -> Binding:
    """Bind one item's inputs, and outputs that onnxruntime allocates."""
    import numpy as np
    import onnxruntime

    binding = session.io_binding()
    for given in inputs:
        array = np.array(given.items[index : index + 1])
        binding.bind_ortvalue_input(given.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for node in session.get_outputs():
        binding.bind_output(node.name)
    return binding


def node_times(session: Session, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the mean time of each node over the counted runs, from onnxruntime's own record."""
    record = Path(session.end_profiling())
    events = json.loads(record.read_text(encoding="utf-8"))
    record.unlink()
    durations: dict[str, list[float]] = {}
    for event in events:
        name, ending = str(event.get("name", "")), "_kernel_time"
        if event.get("cat") == "Node" and name.endswith(ending):
            durations.setdefault(name.removesuffix(ending), []).append(float(event["dur"]))
    counted = job["num_runs"]
    return [
        {"name": name, "us": statistics.fmean(times[-counted:])}
        for name, times in durations.items()
    ]


def mark() -> None:
    """Tell an instruction counter that a run starts or ends, by a call nobody else makes."""
    if MARKING:
        with contextlib.suppress(OSError):
            os.getpriority(MARK_WHICH, 0)


def die_with_parent() -> None:
    """End this process when its runner, named in EDGEKIT_PARENT, dies."""
    parent = os.environ.get("EDGEKIT_PARENT")
    if parent is None:
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(2)


def first_line(path: str) -> str | None:
    """Return a system file's first line, or None."""
    try:
        with Path(path).open("rb") as file:
            return file.read(4096).decode(errors="replace").split("\n")[0].strip("\0 \t") or None
    except OSError:
        return None


def keyed(path: str, *keys: str) -> str | None:
    """Return what stands behind the first of `keys` found in a system file of `key: value`."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = [line.partition(":") for line in lines]
    found = {key.strip(): value.strip() for key, colon, value in reversed(pairs) if colon}
    return next((found[key] for key in keys if found.get(key)), None)


def number(text: str | None, scale: float = 1.0, base: int = 10) -> float | None:
    """Return a number found in a system file, or None."""
    with contextlib.suppress(ValueError):
        return None if text is None else (int(text, base) if base != 10 else float(text)) * scale
    return None


def peak_rss_kib() -> int | None:
    """Return the peak resident memory; getrusage would include the parent's after a vfork."""
    value = keyed("/proc/self/status", "VmHWM")
    return int(value.split()[0]) if value else None


def cpu_state() -> tuple[float | None, float | None, float | None]:
    """Return clock in MHz, temperature in degrees Celsius and the Pi's throttling bits."""
    clock = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return (
        number(clock, 1e-3) if clock else number(keyed("/proc/cpuinfo", "cpu MHz")),
        number(first_line("/sys/class/thermal/thermal_zone0/temp"), 1e-3),
        number(first_line("/sys/devices/platform/soc/soc:firmware/get_throttled"), 1, 16),
    )


def device_state(before: tuple[float | None, ...]) -> dict[str, Any]:
    """Return the device's state, with figures before and after the job."""
    pairs = list(zip(before, cpu_state(), strict=True))
    return {
        "cpu_model": first_line("/proc/device-tree/model")
        or keyed("/proc/cpuinfo", "model name", "Model", "CPU part"),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cores": os.cpu_count(),
        "clock_mhz": pairs[0],
        "temperature_c": pairs[1],
        "throttled": pairs[2],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
