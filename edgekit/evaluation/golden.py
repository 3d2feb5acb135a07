"""Golden tensors: a few inputs and the outputs that every later form of a model is held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from edgekit.core.files import read_json, write_json
from edgekit.core.model import ModelHandle, TensorSpec
from edgekit.core.stage import DataView, StageContext
from edgekit.data.tensors import read_tensors, write_tensors
from edgekit.evaluation.inputs import fit_inputs
from edgekit.evaluation.predict import predict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

NUM_ITEMS = 8
INDEX_FILE = "golden.json"
_INPUTS = "inputs"
_OUTPUTS = "outputs"


class GoldenInputs(NamedTuple):
    """Hold inputs by name, and the labels of the items unless they are synthetic."""

    inputs: dict[str, Array]
    labels: tuple[int, ...] | None

    @property
    def is_synthetic(self) -> bool:
        """Tell whether the values are random, for want of data."""
        return self.labels is None


class Golden(NamedTuple):
    """Hold golden inputs, and outputs by onnxruntime with its optimizations off."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    labels: tuple[int, ...] | None


class _Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1] = 1
    num_items: int
    synthetic: bool
    labels: tuple[int, ...] | None = None


def golden_inputs(
    model: ModelHandle, data: DataView | None, *, seed: int = 0, num_items: int = NUM_ITEMS
) -> GoldenInputs:
    """Return the first items of the test split, or seeded random values where there is no data.

    Raises:
        InputError: The data does not fit the model.
    """
    if data is None:
        return GoldenInputs(synthetic_inputs(model.inputs, seed=seed, num_items=num_items), None)
    split = data.test
    first = {name: array[:num_items] for name, array in split.inputs.items()}
    labels = tuple(int(label) for label in split.labels[:num_items])
    return GoldenInputs(fit_inputs(model.inputs, first), labels)


def synthetic_inputs(
    specs: tuple[TensorSpec, ...], *, seed: int, num_items: int
) -> dict[str, Array]:
    """Return random values that any model of this signature can take.

    Numbers are normal; bytes use their whole range. Other integers are 0 or 1, the only values
    that are valid as token numbers, token types and masks alike, and 1 at the first position, so
    that no attention row is masked altogether.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    return {spec.name: _random(generator, spec, num_items) for spec in specs}


def write_golden(
    model: ModelHandle, ctx: StageContext, folder: Path, *, num_items: int = NUM_ITEMS
) -> Golden:
    """Write `golden.json`, `inputs/` and `outputs/` for an ONNX model, the reference of engines.

    Args:
        model: The ONNX model.
        ctx: Gives the data and the seed.
        folder: Where to.
        num_items: Number of items, fewer when the test split has fewer.

    Raises:
        InputError: The data does not fit the model.
    """
    from edgekit.evaluation.parity import require_finite

    chosen = golden_inputs(model, ctx.data, seed=ctx.seed, num_items=num_items)
    outputs = predict(model, chosen.inputs, num_threads=ctx.num_threads, optimize=False)
    require_finite(outputs, "the ONNX model on golden inputs")
    count = len(next(iter(chosen.inputs.values())))
    write_json(
        folder / INDEX_FILE,
        _Index(num_items=count, synthetic=chosen.is_synthetic, labels=chosen.labels),
    )
    write_tensors(folder / _INPUTS, chosen.inputs)
    write_tensors(folder / _OUTPUTS, outputs)
    return Golden(chosen.inputs, outputs, chosen.labels)


def read_golden(folder: Path) -> Golden:
    """Read what `write_golden` wrote.

    Raises:
        InputError: A file is missing or damaged.
    """
    index = read_json(folder / INDEX_FILE, _Index)
    return Golden(read_tensors(folder / _INPUTS), read_tensors(folder / _OUTPUTS), index.labels)


def _random(generator: np.random.Generator, spec: TensorSpec, num_items: int) -> Array:
    import numpy as np

    dtype = np.dtype(spec.dtype)
    shape = (num_items, *spec.batched(num_items)[1:])
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values = generator.integers(0, 2, shape).astype(dtype)
    if values.ndim > 1:
        values[:, 0] = 1
    return values
