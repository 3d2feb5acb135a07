"""Arrays matched to the inputs a model declares, with an exact message where they don't fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, near
from edgekit.core.model import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def fit_inputs(specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays in the order and under the names of the model's inputs.

    A single array serves a single input whatever it is called: a dataset says `image` where a
    model from elsewhere says `input.1`. A fixed batch is no bound on the number of items.

    Args:
        specs: What the model declares.
        arrays: By name, items along axis 0.

    Raises:
        InputError: An input is missing or the arrays differ in items, shape or element type.
    """
    given = dict(arrays)
    if len(specs) == 1 and len(given) == 1 and specs[0].name not in given:
        given = {specs[0].name: next(iter(given.values()))}
    names = [spec.name for spec in specs]
    for name in names:
        if name not in given:
            raise InputError(
                f"the model takes '{name}'",
                found=f"data with {', '.join(given) or 'no inputs'}",
                hint=near(name, list(given)),
            )
    fitted = {spec.name: _fit(spec, given[spec.name]) for spec in specs}
    counts = {name: len(array) for name, array in fitted.items()}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        raise InputError(
            "running the model",
            found=", ".join(f"{count} items of '{name}'" for name, count in counts.items()),
            expected="the same number of each, at least one",
        )
    return fitted


def _fit(spec: TensorSpec, array: Array) -> Array:
    import numpy as np

    is_right_shape = array.ndim == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not is_right_shape:
        raise InputError(
            f"input '{spec.name}' of the model",
            found=f"data of shape {list(array.shape)}",
            expected=f"[batch, {', '.join(str(size) for size in spec.shape[1:])}]",
            hint="Change the preprocessing, or the model's options, so that they agree",
        )
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise InputError(
            f"input '{spec.name}' of the model",
            found=f"data of type {array.dtype}",
            expected=spec.dtype,
            hint="`to-float` in preprocess turns integers into numbers from 0 to 1"
            if spec.dtype.startswith("float")
            else None,
        )
    return array.astype(spec.dtype, copy=False)
