"""Collect statistics of every activation of an ONNX graph over calibration data.

The data is read in passes, a batch at a time, so that memory does not grow with the number of
samples: extremes first, then what the observer needs besides. Why not onnxruntime's calibrators:
their percentile and entropy definitions have no reference to check against and keep whole
activations in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.compress.quant.observer import Observer, Range, TensorStatistics
from edgekit.core.errors import InputError, StageError, require_module
from edgekit.core.progress import NullProgress, Progress

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    Batch = Mapping[str, NDArray[Any]]

# Values per tensor for observers that look at values: a 99.99th percentile rests on 26 of them.
_SAMPLE_SIZE = 1 << 18
# All activations of a batch are in memory at once.
_BATCH_SIZE = 16
_ERRORS_ONLY = 3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Say with what and how to calibrate.

    Attributes:
        batches: Gives the batches anew at every call; the same ones each time.
        observer: Chooses ranges.
        seed: Seed of the random part taken of large tensors.
        num_threads: Threads inside an operator.
        progress: Where to report batches.
    """

    batches: Callable[[], Iterable[Batch]]
    observer: Observer
    seed: int = 0
    num_threads: int = 1
    progress: Progress = field(default_factory=NullProgress)


def choose_samples(num_samples: int, subset_size: int | None, seed: int) -> NDArray[np.int64]:
    """Return which samples to calibrate with, ascending: a random part, or all."""
    import numpy as np

    order = np.random.Generator(np.random.PCG64(seed)).permutation(num_samples)
    return np.sort(order[:subset_size])


def batches_of(
    inputs: Batch, samples: NDArray[np.int64], *, fixed_batch: int | None
) -> Callable[[], Iterator[Batch]]:
    """Return what gives some samples in batches, anew at every call.

    Args:
        inputs: Arrays by name, samples along axis 0.
        samples: Which of them.
        fixed_batch: Batch that the model fixes, when a rest is left out; None when it is open.
    """
    size = fixed_batch or _BATCH_SIZE

    def batches() -> Iterator[Batch]:
        for start in range(0, len(samples), size):
            indices = samples[start : start + size]
            if fixed_batch is None or len(indices) == fixed_batch:
                yield {name: array[indices] for name, array in inputs.items()}

    return batches


def calibrate(
    model: onnx.ModelProto, tensors: Sequence[str], calibration: Calibration
) -> dict[str, Range]:
    """Return the range of each tensor as the observer chooses it.

    Args:
        model: Float graph.
        tensors: Names of float activations, graph inputs and outputs included.
        calibration: Data and observer.

    Raises:
        InputError: No batch.
        StageError: An activation is NaN or infinite.
    """
    observer = calibration.observer
    statistics = collect(model, tensors, calibration)
    ranges: dict[str, Range] = {}
    with calibration.progress.start("choose ranges", len(statistics), "tensors") as task:
        for name, found in statistics.items():
            low, high = observer.range(found)
            ranges[name] = (min(low, 0.0), max(high, 0.0))  # 0 must be a level: padding, ReLU
            task.advance()
    return ranges


def collect(
    model: onnx.ModelProto, tensors: Sequence[str], calibration: Calibration
) -> dict[str, TensorStatistics]:
    """Return the statistics of each tensor that the observer needs."""
    run = _runner(model, tensors, calibration)
    low, high, sizes = _extremes(run, tensors)
    observer = calibration.observer
    counts: dict[str, NDArray[np.int64]] = {}
    samples: dict[str, NDArray[np.float32]] = {}
    if observer.needs == "histogram":
        counts = _histograms(run, low, high, observer.histogram_bins)
    elif observer.needs == "sample":
        samples = _samples(run, sizes, calibration.seed)
        samples = {
            name: _with_extremes(values, low[name], high[name]) for name, values in samples.items()
        }
    return {
        name: TensorStatistics(
            low=low[name], high=high[name], counts=counts.get(name), sample=samples.get(name)
        )
        for name in tensors
    }


def _runner(
    model: onnx.ModelProto, tensors: Sequence[str], calibration: Calibration
) -> Callable[[], Iterable[dict[str, NDArray[np.float32]]]]:
    import onnx

    ort = require_module("onnxruntime", "onnx")
    inputs = {info.name for info in model.graph.input}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {info.name for info in model.graph.output}
    inner = [name for name in tensors if name not in inputs]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in inner
        if name not in known
    )
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = calibration.num_threads
    options.inter_op_num_threads = 1
    # Fusions would make values disappear that are asked for.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run() -> Iterable[dict[str, NDArray[np.float32]]]:
        with calibration.progress.start("calibrate", None, "batches") as task:
            for batch in calibration.batches():
                values = session.run(inner, dict(batch)) if inner else []  # [] would mean all
                found = dict(zip(inner, values, strict=True))
                yield found | {name: batch[name] for name in tensors if name in inputs}
                task.advance()

    return run


def _extremes(
    run: Callable[[], Iterable[dict[str, NDArray[np.float32]]]], tensors: Sequence[str]
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    low = dict.fromkeys(tensors, math.inf)
    high = dict.fromkeys(tensors, -math.inf)
    sizes = dict.fromkeys(tensors, 0)
    num_batches = 0
    for batch in run():
        num_batches += 1
        for name, values in batch.items():
            if values.size:
                # min and max of data with a NaN are NaN, so this check sees every value.
                smallest, largest = float(values.min()), float(values.max())
                if not (math.isfinite(smallest) and math.isfinite(largest)):
                    raise StageError(
                        f"calibrating activation '{name}'",
                        found="NaN or infinite values",
                        expected="finite activations",
                        hint="Check the model before quantization and the preprocessing",
                    )
                low[name], high[name] = min(low[name], smallest), max(high[name], largest)
                sizes[name] += values.size
    if not num_batches:
        raise InputError("calibrating", found="no calibration data", expected="at least one sample")
    return low, high, sizes


def _histograms(
    run: Callable[[], Iterable[dict[str, NDArray[np.float32]]]],
    low: Mapping[str, float],
    high: Mapping[str, float],
    num_bins: int,
) -> dict[str, NDArray[np.int64]]:
    from edgekit.arithmetic.calibration import abs_histogram

    found: dict[str, NDArray[np.int64]] = {}
    for batch in run():
        for name, values in batch.items():
            reach = max(abs(low[name]), abs(high[name]))
            counts = abs_histogram(values, reach, num_bins)
            found[name] = found[name] + counts if name in found else counts
    return found


def _samples(
    run: Callable[[], Iterable[dict[str, NDArray[np.float32]]]],
    sizes: Mapping[str, int],
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in sizes}
    for batch in run():
        for name, values in batch.items():
            flat = values.ravel()
            share = min(1.0, _SAMPLE_SIZE / max(sizes[name], 1))
            if share < 1.0:
                # At random, not every n-th: strides would meet the same columns of every image.
                flat = flat[rng.random(flat.size) < share]
            parts[name].append(flat.astype(np.float32))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _with_extremes(sample: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Put back the extremes, which a random part of the values has probably missed."""
    import numpy as np

    return np.append(sample, np.array([low, high], np.float32)) if math.isfinite(low) else sample
