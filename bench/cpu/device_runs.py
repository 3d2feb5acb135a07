"""Run a net on a device of the project, local or emulated, and bring back figures and outputs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.core.target import Target
    from edgekit.devices.job import Engine, JobResult, Mode

_INPUT = "image"


class Ran(NamedTuple):
    """Hold a job's figures, and its outputs, float32 (images, classes)."""

    result: JobResult
    outputs: NDArray[np.float32]


def run_on(
    uri: str,
    target: Target,
    engine: Engine,
    model: Path,
    images: NDArray[np.float32],
    *,
    mode: Mode,
    num_runs: int = 0,
    warmup_runs: int = 0,
) -> Ran:
    """Run every image once, then the counted runs.

    Args:
        uri: The runner, such as `local:` or `emulated:rpi4`.
        target: What the model was compiled for.
        engine: What runs it.
        model: A library or an ONNX file.
        images: float32 (images, C, H, W).
        mode: `outputs`, `latency` or `steps`.
        num_runs: Counted runs.
        warmup_runs: Runs before them.
    """
    from edgekit.core.places import cache_folder
    from edgekit.devices.job import Job, TensorFile
    from edgekit.devices.session import open_session

    with (
        tempfile.TemporaryDirectory() as scratch,
        open_session(uri, target, cache_folder()) as session,
    ):
        shutil.copy(model, scratch)
        (Path(scratch) / "image.bin").write_bytes(images.tobytes())
        pushed = session.push(Path(scratch), "net")
        job = Job(
            engine=engine,
            model=f"{pushed}/{model.name}",
            inputs=(
                TensorFile(
                    name=_INPUT, file=f"{pushed}/image.bin", dtype="float32", shape=images.shape
                ),
            ),
            num_items=len(images),
            mode=mode,
            num_runs=num_runs,
            warmup_runs=warmup_runs,
        )
        result = session.run(job)
        content = (session.folder / result.outputs[0].file).read_bytes()
    return Ran(result, np.frombuffer(content, np.float32).reshape(len(images), -1))
