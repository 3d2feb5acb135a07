"""Running a model on arrays: the usual way to use a session."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.core.errors import InputError
from edgekit.devices.job import Engine, Job, JobResult, Mode
from edgekit.devices.tensors import read_outputs, write_inputs

if TYPE_CHECKING:
    import numpy as np

    from edgekit.devices.session import Session

_INPUTS = "inputs"


class Executed(NamedTuple):
    """Hold the outputs by name, each of shape (items, ...), and the figures of a job."""

    outputs: dict[str, np.ndarray[Any, np.dtype[Any]]]
    result: JobResult


def execute(
    session: Session,
    engine: Engine,
    model: str,
    inputs: Mapping[str, np.ndarray[Any, np.dtype[Any]]],
    *,
    mode: Mode = "outputs",
    warmup_runs: int = 0,
    num_runs: int = 0,
    num_threads: int = 1,
) -> Executed:
    """Run every item of `inputs` through a model on a device, in one device process.

    Args:
        session: The device; the model's folder has been pushed to it.
        engine: What executes the model.
        model: Path on the device, such as `tvm/libmodel.so` after `push(..., "tvm")`.
        inputs: Model input name to array of shape (items, ...).
        mode: What is measured besides the outputs; see `Job`.
        warmup_runs: Runs before the counted ones.
        num_runs: Counted runs, cycling through the items.
        num_threads: Threads the engine may use.

    Raises:
        InputError: Inputs that no job can hold.
        DeviceError: The device failed.
    """
    if not inputs or not all(len(array) for array in inputs.values()):
        raise InputError("running a model on a device", found="no items", expected="at least one")
    with tempfile.TemporaryDirectory(prefix="edgekit-inputs-") as scratch:
        files = write_inputs(Path(scratch), inputs, _INPUTS)
        session.push(Path(scratch), _INPUTS)
    job = Job(
        engine=engine,
        model=model,
        inputs=files,
        num_items=files[0].shape[0],
        warmup_runs=warmup_runs,
        num_runs=num_runs,
        num_threads=num_threads,
        mode=mode,
    )
    result = session.run(job)
    return Executed(read_outputs(session.folder, result), result)
