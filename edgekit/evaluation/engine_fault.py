"""Where a compiled engine first goes wrong on a device: variants that show more of the graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.compiler.locate import first_divergence
from edgekit.compiler.onnx_file import load_onnx, save_onnx
from edgekit.core.registry import registry
from edgekit.data.tensors import write_tensors
from edgekit.devices.job import Job
from edgekit.evaluation.device_tensors import job_inputs, read_outputs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from edgekit.compiler.engine_build import EngineBuild
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target
    from edgekit.devices.session import Session

    Array = NDArray[Any]


def locate_engine_fault(
    model: Path,
    inputs: Mapping[str, Array],
    *,
    engine: str,
    target: Target,
    session: Session,
    tolerance: float,
    scratch: Path,
    progress: Progress,
) -> str | None:
    """Name the first node whose output on the device leaves the reference.

    Each round compiles the model with a few more outputs and runs it for one item.

    Args:
        model: The ONNX file the engine was built from.
        inputs: Golden inputs by name; the first item is used.
        engine: Name of the engine.
        target: What to compile for.
        session: The device.
        tolerance: Largest difference allowed, as a share of a tensor's largest value.
        scratch: Folder for the variants.
        progress: Where to report.

    Returns:
        Node, operator and SNR in words; None when every single layer agrees.
    """
    run = _variant_runner(engine, target, session, scratch, progress)
    one = {name: array[:1] for name, array in inputs.items()}
    found = first_divergence(load_onnx(model), one, run, tolerance=tolerance)
    if found is None:
        return None
    return f"'{found.node}' ({found.operator}, SNR {found.snr_db:.1f} dB)"


def _variant_runner(
    engine: str, target: Target, session: Session, scratch: Path, progress: Progress
) -> Callable[[onnx.ModelProto, Mapping[str, Array]], dict[str, Array]]:
    numbers = itertools.count()

    def run(variant: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
        folder = scratch / f"variant-{next(numbers)}"
        folder.mkdir(parents=True)
        save_onnx(variant, folder / "variant.onnx")
        place = folder / "engine"
        place.mkdir()
        build = (
            registry("engines")
            .get(engine)()
            .build(folder / "variant.onnx", place, target, progress=progress)
        )
        return _run(session, folder, build, inputs)

    return run


def _run(
    session: Session, folder: Path, build: EngineBuild, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    written = write_tensors(folder / "samples", dict(inputs))
    place = session.push(folder, folder.name)
    job = Job(
        engine=build.engine,  # type: ignore[arg-type]
        model=f"{place}/engine/{build.library}",
        inputs=job_inputs(f"{place}/samples", written),
        outputs=f"outputs-{folder.name}",
        num_items=1,
    )
    return read_outputs(session, session.run(job))
