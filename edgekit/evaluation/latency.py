"""How fast a model is on the building machine between two stages: an early hint, not a verdict.

Torch models run eagerly and ONNX models by onnxruntime, one sample and one thread, so figures of
two stages compare where the runtime is the same. What counts is what `profile` measures on the
device.
"""

from __future__ import annotations

import statistics
import time

from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.stage import StageContext
from edgekit.evaluation.golden import synthetic_inputs
from edgekit.evaluation.predict import fixed_batch, open_model

NAME = "host_p50_ms"
_WARMUP_RUNS = 3
_RUNS = 15


def host_latency(model: ModelHandle, ctx: StageContext) -> tuple[Metric, ...]:
    """Return the median time of one sample in milliseconds; nothing for compiled models.

    Args:
        model: A torch or ONNX model.
        ctx: Gives the seed of the random sample, and whether user code may build the model.

    Raises:
        InputError: The model can't be loaded.
    """
    if model.kind is ModelKind.COMPILED:
        return ()
    run = open_model(model, num_threads=1, allow_code=ctx.allow_code)
    # A model whose batch is fixed runs that batch; one sample of it costs a share of the time.
    num_items = fixed_batch(model.inputs) or 1
    sample = synthetic_inputs(model.inputs, seed=ctx.seed, num_items=num_items)
    for _ in range(_WARMUP_RUNS):
        run(sample)
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        run(sample)
        times.append(time.perf_counter() - started)
    return (Metric(NAME, statistics.median(times) * 1e3 / num_items, "ms", "lower"),)
