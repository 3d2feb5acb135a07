"""Find the fastest tile of every layer by measuring candidates on the device.

Each candidate is the whole network, built with the next best tile of every layer, and all layers
are timed in it at once, step by step: so each is measured with the caches as its neighbours leave
them, and a network of fifty layers costs no more builds than one of two. The builds are measured
in turns, in several rounds; a layer's cost is the least of its rounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from edgekit.compiler.engine_build import EngineBuild, read_engine_build
from edgekit.compiler.engines.tvm import Tvm
from edgekit.compiler.onnx_file import input_specs, load_onnx, specialise
from edgekit.core.canonical import sha256_file, sha256_json
from edgekit.core.errors import DeviceError, InputError, StageError
from edgekit.core.progress import Progress
from edgekit.core.target import Target, TileTable
from edgekit.data.tensors import write_tensors
from edgekit.devices.job import Job, TensorFile
from edgekit.devices.measure import refuse_throttled
from edgekit.devices.session import open_session
from edgekit.evaluation.device_tensors import job_inputs

if TYPE_CHECKING:
    from edgekit.devices.job import StepTime
    from edgekit.devices.session import Session

_WORTH_IT = 1.02
"""A tile replaces the analytic one only above this gain; below it lies the noise."""


class TuneSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much to measure.

    Args:
        num_candidates: Tiles per layer, in the order of the analytic choice.
        rounds: How often each build is measured.
        num_runs: Runs per round.
        num_threads: Threads of the engine.
        seed: Of the inputs and of the order in which builds take turns.
    """

    num_candidates: int = 8
    rounds: int = 3
    num_runs: int = 20
    num_threads: int = 1
    seed: int = 0


class TunedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """Report one layer.

    Args:
        layer: Its key.
        nodes: ONNX nodes of the first operator of that shape.
        tile: The best tile found.
        analytic: The tile it is compared with.
        cost: Of the best tile, in microseconds or instructions.
        analytic_cost: Of the analytic one.
    """

    layer: str
    nodes: tuple[str, ...]
    tile: str
    analytic: str
    cost: float
    analytic_cost: float

    @property
    def gain(self) -> float:
        """Return how much faster the best tile is, as a ratio."""
        return self.analytic_cost / self.cost if self.cost else 1.0


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was found.

    Args:
        table: What to write beside the target.
        layers: Every layer that has a choice.
        gain: How much faster all steps together are, as a ratio.
        failed: Candidates that could not be built, with the reason.
    """

    table: TileTable
    layers: tuple[TunedLayer, ...]
    gain: float
    failed: tuple[str, ...] = ()


class _Cost(NamedTuple):
    tile: str
    value: float


def tune(
    onnx_path: Path,
    target: Target,
    *,
    runner: str,
    cache_dir: Path,
    compiler: str,
    settings: TuneSettings,
    scratch: Path,
    progress: Progress,
) -> Tuning:
    """Measure candidates of every layer of a model.

    Args:
        onnx_path: The model.
        target: What to compile for; tiles it already has are measured anew.
        runner: Runner URI; emulated devices count instructions, which know no caches.
        cache_dir: The user's cache folder; builds are kept there, so that a tuning that was
            interrupted goes on.
        compiler: Digest of the compiler's source: builds of another one are not taken.
        settings: How much to measure.
        scratch: Folder for temporary files.
        progress: Where to report.

    Raises:
        InputError: The model cannot be compiled, or has no layer with a choice.
        DeviceError: The device cannot be used.
    """
    bare = msgspec.structs.replace(target, tiles={})
    key = sha256_json([sha256_file(onnx_path), bare, compiler])[:24]
    builds, failed = _builds(onnx_path, bare, cache_dir / "tune" / key, settings, progress)
    with open_session(runner, target, cache_dir, progress) as session:
        info = session.probe()
        inputs = _inputs(session, onnx_path, scratch, settings.seed)
        unit: Literal["us", "instructions"] = "instructions" if info.kind == "emulated" else "us"
        if unit == "instructions" and unit not in info.measures:
            raise DeviceError(f"tuning on {runner}", found="a device that measures nothing")
        costs = _measure(session, builds, inputs, settings, progress)
    layers = _layers(builds[0][1], costs)
    if not layers:
        raise InputError(
            f"tuning {onnx_path}", found="no layer with more than one tile to choose from"
        )
    chosen = [layer for layer in layers if layer.gain >= _WORTH_IT]
    before = sum(layer.analytic_cost for layer in layers)
    after = sum(min(layer.cost, layer.analytic_cost) for layer in layers)
    table = TileTable(
        target=target.name,
        device=f"{info.kind}: {info.cpu_model}",
        unit=unit,
        tiles={
            **target.tiles,
            **{layer.layer: layer.analytic for layer in layers},
            **{layer.layer: layer.tile for layer in chosen},
        },
        gains={layer.layer: round(layer.gain, 3) for layer in chosen},
    )
    return Tuning(table=table, layers=layers, gain=before / after, failed=tuple(failed))


def _builds(
    onnx_path: Path, target: Target, folder: Path, settings: TuneSettings, progress: Progress
) -> tuple[list[tuple[Path, EngineBuild]], list[str]]:
    """Build candidate after candidate until no layer has another tile."""
    builds: list[tuple[Path, EngineBuild]] = []
    failed = []
    known: set[tuple[str, str]] = set()
    with progress.start(f"compile for {target.name}", settings.num_candidates, "builds") as task:
        for number in range(settings.num_candidates):
            place = folder / str(number)
            try:
                build = _build(onnx_path, place, target, number, progress)
            except StageError as error:
                failed.append(f"candidate {number}: {error}")
                continue
            finally:
                task.advance()
            tiles = {(step.layer, step.tile) for step in build.steps if step.layer}
            if builds and tiles <= known:
                break
            known |= tiles
            builds.append((place, build))
    if not builds:
        raise StageError(f"tuning {onnx_path}: no candidate compiles", found=failed[0])
    return builds, failed


def _build(
    onnx_path: Path, place: Path, target: Target, number: int, progress: Progress
) -> EngineBuild:
    if (place / "engine.json").is_file():  # written last, so the build is whole
        return read_engine_build(place)
    engine = Tvm(tile_candidate=number, static_library=False)
    return engine.build(onnx_path, place, target, progress=progress)


def _inputs(session: Session, onnx_path: Path, scratch: Path, seed: int) -> tuple[TensorFile, ...]:
    import numpy as np

    draw = np.random.default_rng(seed)
    arrays = {}
    for spec in input_specs(specialise(load_onnx(onnx_path))):
        values = draw.standard_normal(spec.batched(1))
        arrays[spec.name] = (values if "float" in spec.dtype else abs(values)).astype(spec.dtype)
    folder = scratch / "inputs"
    written = write_tensors(folder, arrays)
    return job_inputs(session.push(folder, "inputs"), written)


def _measure(
    session: Session,
    builds: Sequence[tuple[Path, EngineBuild]],
    inputs: tuple[TensorFile, ...],
    settings: TuneSettings,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Return the least cost of each tile of each layer."""
    costs: dict[str, dict[str, float]] = {}
    turns = random.Random(settings.seed)
    places = [session.push(place, f"candidate-{i}") for i, (place, _) in enumerate(builds)]
    with progress.start("measure", settings.rounds * len(builds), "runs") as task:
        for _ in range(settings.rounds):
            order = list(range(len(builds)))
            turns.shuffle(order)
            for number in order:
                build = builds[number][1]
                result = session.run(_job(build, places[number], inputs, settings))
                refuse_throttled(result.device)
                for layer, cost in _costs(build, result.steps or ()).items():
                    found = costs.setdefault(layer, {})
                    found[cost.tile] = min(found.get(cost.tile, math.inf), cost.value)
                task.advance()
    return costs


def _job(
    build: EngineBuild, place: str, inputs: tuple[TensorFile, ...], settings: TuneSettings
) -> Job:
    return Job(
        engine="tvm",
        model=f"{place}/{build.library}",
        inputs=inputs,
        outputs=f"outputs-{place}",
        num_items=1,
        warmup_runs=2,
        num_runs=settings.num_runs,
        num_threads=settings.num_threads,
        mode="steps",
    )


def _costs(build: EngineBuild, steps: Sequence[StepTime]) -> Mapping[str, _Cost]:
    """Return the cost of each layer, operators of the same shape together."""
    found: dict[str, _Cost] = {}
    for fact, step in zip(build.steps, steps, strict=True):
        if fact.layer:
            value = step.us if step.us is not None else step.instructions or 0.0
            before = found[fact.layer].value if fact.layer in found else 0.0
            found[fact.layer] = _Cost(fact.tile, before + value)
    return found


def _layers(
    analytic: EngineBuild, costs: Mapping[str, Mapping[str, float]]
) -> tuple[TunedLayer, ...]:
    return tuple(sorted(_compared(analytic, costs), key=lambda layer: -layer.analytic_cost))


def _compared(
    analytic: EngineBuild, costs: Mapping[str, Mapping[str, float]]
) -> Iterator[TunedLayer]:
    seen = set()
    for step in analytic.steps:
        tiles = costs.get(step.layer, {})
        if step.layer in seen or len(tiles) < 2:
            continue
        seen.add(step.layer)
        best = min(tiles, key=lambda tile: tiles[tile])
        yield TunedLayer(
            layer=step.layer,
            nodes=step.nodes,
            tile=best,
            analytic=step.tile,
            cost=tiles[best],
            analytic_cost=tiles[step.tile],
        )
