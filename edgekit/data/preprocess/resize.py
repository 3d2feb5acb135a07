"""Resize images with a triangle filter, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from edgekit.core.options import Meta, Options
from edgekit.data.inputs import change_input, expect_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.data.contracts import Array

_Side = Annotated[int, Meta(ge=1, le=16384)]
_CHUNK = 256


class Resize(Options, frozen=True):
    """Resize images bilinearly; when shrinking, the filter widens so that nothing is skipped.

    Why in numpy and not by Pillow: preprocessing travels in bundles and has to give the same
    result wherever numpy runs. Bytes stay bytes, floats become float32.
    """

    size: Annotated[tuple[_Side, _Side], Meta(description="height and width")]
    input: Annotated[str | None, Meta(description="input to change; the only one if unset")] = None

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Resize one input [batch, channels, height, width]."""
        return change_input(inputs, self.input, "resize", self._resize)

    def _resize(self, array: Array) -> Array:
        import numpy as np

        expect_image(array, "resize")
        rows, columns = (
            _weights(array.shape[2], self.size[0]),
            _weights(array.shape[3], self.size[1]),
        )
        dtype = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
        resized = np.empty((*array.shape[:2], *self.size), dtype)
        for start in range(0, len(array), _CHUNK):
            values = rows @ array[start : start + _CHUNK].astype(np.float64) @ columns.T
            if dtype.kind != "f":  # ties decided alike whatever order a BLAS adds in
                values = np.rint(np.round(values, 6))
            resized[start : start + _CHUNK] = values
        return resized


def _weights(old: int, new: int) -> NDArray[np.float64]:
    """Give the [new, old] matrix of a triangle filter, outer edges aligned, rows adding to 1."""
    import numpy as np

    ratio = old / new
    reach = max(ratio, 1.0)
    centres = (np.arange(new) + 0.5) * ratio
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)
