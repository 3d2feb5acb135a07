"""Jobs and their results: the one protocol between edgekit and every device program.

A runner puts `job.json`, the model and raw input files into one folder, starts a device program
and reads back `result.json` and raw output files. Whatever comes from a device is checked before
it is used: it may be another machine, an old program, or one that was cut off.
"""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgekit.core.errors import DeviceError, InputError

RESULT_BYTES_LIMIT = 64 << 20

Engine = Literal["tvm", "onnxruntime"]
Mode = Literal["outputs", "latency", "steps"]

ITEM_BYTES: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "float16": 2,
    "int16": 2,
    "uint16": 2,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "float64": 8,
    "int64": 8,
    "uint64": 8,
}
"""Bytes of one element by dtype, for every dtype that may travel."""

_COMPONENT = re.compile(r"[^/\x00-\x1f\x7f]+")
_PATH_LIMIT = 511


class TensorFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name a file of raw little-endian elements, items one behind another.

    Args:
        name: The model's name for the tensor.
        file: Path relative to the job's folder.
        dtype: numpy's word for the element type.
        shape: Number of items first, then the shape of one item without its batch of one.
    """

    name: Annotated[str, Meta(max_length=1024)]
    file: Annotated[str, Meta(max_length=2048)]
    dtype: Annotated[str, Meta(max_length=32)]
    shape: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1, max_length=8)]

    @property
    def num_bytes(self) -> int:
        """Return the size that the file must have."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what a device program does: every item once, then warm-up runs, then counted runs.

    Args:
        engine: What executes the model.
        model: The compiled library or the ONNX file, relative to the job's folder.
        inputs: One file per model input.
        outputs: Folder for the outputs of the pass over all items, relative to the job's folder.
        num_items: Number of items in every input file; each is one inference.
        warmup_runs: Runs before the counted ones; they cycle through the items.
        num_runs: Counted runs; at least 1 unless mode is `outputs`, which has none.
        num_threads: Threads the engine may use.
        mode: `outputs` runs the items only, `latency` counts whole runs, `steps` single operators.
    """

    engine: Engine
    model: str
    inputs: tuple[TensorFile, ...]
    num_items: Annotated[int, Meta(ge=1, le=10_000_000)]
    outputs: str = "outputs"
    warmup_runs: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    num_runs: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    num_threads: Annotated[int, Meta(ge=1, le=256)] = 1
    mode: Mode = "outputs"
    schema: Literal[1] = 1


class StepTime(msgspec.Struct, frozen=True, kw_only=True):
    """Give the mean cost of one operator over the counted runs.

    Args:
        name: The step's name in the compiled library, or the node's in the ONNX graph.
        us: Microseconds; None where time means nothing.
        instructions: Executed instructions; None where they cannot be counted.
    """

    name: Annotated[str, Meta(max_length=4096)]
    us: Annotated[float, Meta(ge=0)] | None = None
    instructions: float | None = None


BeforeAndAfter = tuple[float | None, float | None]


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what the device said about itself; None is unknown.

    Args:
        cpu_model: The processor's or board's own name.
        governor: Linux's clock policy, such as `performance`.
        cores: Cores online.
        clock_mhz: Before and after the job.
        temperature_c: Before and after the job, in degrees Celsius.
        throttled: The Raspberry Pi firmware's bit mask, before and after.
    """

    cpu_model: Annotated[str, Meta(max_length=1024)] | None = None
    governor: Annotated[str, Meta(max_length=1024)] | None = None
    cores: int | None = None
    clock_mhz: BeforeAndAfter = (None, None)
    temperature_c: BeforeAndAfter = (None, None)
    throttled: BeforeAndAfter = (None, None)


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a device program found; figures it could not take are None or empty.

    Args:
        status: `ok`, or `error` with the reason in `error`.
        outputs: One file per model output, holding every item.
        times_us: Duration of each counted run in microseconds.
        first_run_us: Duration of the very first run.
        load_us: Opening the model until it is ready to run.
        peak_rss_kib: Peak resident memory of the device program, runtime included.
        threads: Threads the engine really used.
        instructions_per_run: Median of the counted runs, in an emulator.
        steps: Cost of each operator, in mode `steps`.
        device: The device's own state.
    """

    status: Literal["ok", "error"]
    error: Annotated[str, Meta(max_length=8192)] | None = None
    outputs: tuple[TensorFile, ...] = ()
    times_us: tuple[Annotated[float, Meta(ge=0)], ...] = ()
    first_run_us: Annotated[float, Meta(ge=0)] | None = None
    load_us: Annotated[float, Meta(ge=0)] | None = None
    peak_rss_kib: Annotated[int, Meta(ge=0)] | None = None
    threads: Annotated[int, Meta(ge=1)] | None = None
    instructions_per_run: float | None = None
    steps: tuple[StepTime, ...] | None = None
    device: DeviceState = DeviceState()
    schema: Literal[1] = 1


def is_plain_path(path: str) -> bool:
    """Tell whether a path is relative and made of plain components: no `..`, `.`, empty one."""
    parts = path.split("/")
    return len(path.encode()) <= _PATH_LIMIT and all(
        _COMPONENT.fullmatch(part) and part not in {".", ".."} for part in parts
    )


def check_job(job: Job, folder: Path) -> None:
    """Refuse a job that a device program would refuse, before anything is started.

    Raises:
        InputError: A path that leaves the folder, a file that is missing or has the wrong size,
            an unknown dtype, or no counted runs in a mode that needs them.
    """
    for path in (job.model, job.outputs, *(tensor.file for tensor in job.inputs)):
        if not is_plain_path(path):
            raise InputError("job: a path", found=repr(path), expected="one below its folder")
    if not (folder / job.model).is_file():
        raise InputError(
            "job: the model", found=f"no file '{job.model}'", hint="Push its folder first"
        )
    if job.mode != "outputs" and job.num_runs < 1:
        raise InputError(f"job: num_runs in mode '{job.mode}'", found="0", expected="at least 1")
    for tensor in job.inputs:
        _check_tensor(tensor, folder, job.num_items, InputError)


def parse_result(path: Path, job: Job, folder: Path) -> JobResult:
    """Read and check what a device program wrote.

    Args:
        path: The result file.
        job: The job it answers.
        folder: The job's folder; output files lie below it.

    Raises:
        DeviceError: No result, not one of this protocol, an error reported by the device, figures
            that make no sense, or output files that don't fit what the result says.
    """
    result = _decode(_read_limited(path))
    if result.status == "error":
        raise DeviceError(f"device program: {result.error or 'an error without a reason'}")
    for tensor in result.outputs:
        if not is_plain_path(tensor.file) or not tensor.file.startswith(f"{job.outputs}/"):
            raise _doubt(f"output file {tensor.file!r}", f"one below '{job.outputs}/'")
        _check_tensor(tensor, folder, job.num_items, DeviceError)
    _check_figures(result, job)
    return result


def _check_figures(result: JobResult, job: Job) -> None:
    if not result.outputs:
        raise _doubt("no outputs", "at least one")
    num_times = job.num_runs if job.mode == "latency" else 0
    if len(result.times_us) != num_times:
        raise _doubt(f"{len(result.times_us)} times", f"{num_times}")
    if job.mode == "steps" and result.steps is None:
        raise _doubt("no steps", "one time per operator")


def _check_tensor(
    tensor: TensorFile, folder: Path, num_items: int, error: type[DeviceError | InputError]
) -> None:
    place = f"tensor '{tensor.name}'"
    if tensor.dtype not in ITEM_BYTES:
        raise error(place, found=f"dtype {tensor.dtype}", expected=", ".join(ITEM_BYTES))
    if tensor.shape[0] != num_items:
        raise error(place, found=f"{tensor.shape[0]} items", expected=f"{num_items}")
    try:
        status = os.lstat(folder / tensor.file)
    except OSError as reason:
        raise error(place, found=f"no file '{tensor.file}'") from reason
    if not stat.S_ISREG(status.st_mode) or status.st_size != tensor.num_bytes:
        raise error(
            place,
            found=f"{status.st_size} bytes in '{tensor.file}'",
            expected=f"a regular file of {tensor.num_bytes} bytes",
        )


def _read_limited(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise DeviceError("device program: it ended without a result") from error
    with os.fdopen(handle, "rb") as file:
        content = file.read(RESULT_BYTES_LIMIT + 1)
    if len(content) > RESULT_BYTES_LIMIT:
        raise _doubt("a result of over 64 MiB", "a smaller one")
    return content


def _decode(content: bytes) -> JobResult:
    try:
        return msgspec.json.decode(content, type=JobResult)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _doubt(str(error), "a result of schema 1") from error


def _doubt(found: str, expected: str) -> DeviceError:
    return DeviceError("device program: its result makes no sense", found=found, expected=expected)
