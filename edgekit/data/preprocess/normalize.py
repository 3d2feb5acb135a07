"""Subtract a mean and divide by a standard deviation, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.data.inputs import change_input

if TYPE_CHECKING:
    from edgekit.data.contracts import Array

_Positive = Annotated[float, Meta(gt=0)]


class Normalize(Options, frozen=True):
    """Map each channel to (x - mean) / std in float32; axis 1 holds the channels."""

    mean: Annotated[tuple[float, ...], Meta(min_length=1, description="one per channel, or one")]
    std: Annotated[tuple[_Positive, ...], Meta(min_length=1, description="one per channel, or one")]
    input: Annotated[str | None, Meta(description="input to change; the only one if unset")] = None

    def __post_init__(self) -> None:
        """Refuse lists that cannot belong together."""
        if len(self.mean) != len(self.std):
            raise InputError(
                "preprocess 'normalize'",
                found=f"{len(self.mean)} means and {len(self.std)} deviations",
                expected="as many of one as of the other",
            )

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Normalize one float input [batch, channels, ...]."""
        return change_input(inputs, self.input, "normalize", self._normalize)

    def _normalize(self, array: Array) -> Array:
        import numpy as np

        if array.dtype.kind != "f":
            raise InputError(
                "preprocess 'normalize'",
                found=f"elements of type {array.dtype}",
                expected="floating point",
                hint="Put to-float before it",
            )
        if array.ndim < 2 or len(self.mean) not in {1, array.shape[1]}:
            raise InputError(
                "preprocess 'normalize'",
                found=f"shape {array.shape}",
                expected=f"[batch, {len(self.mean)} channels, ...]",
            )
        shape = [1, len(self.mean)] + [1] * (array.ndim - 2)
        centred = array.astype(np.float32) - np.array(self.mean, np.float32).reshape(shape)
        centred /= np.array(self.std, np.float32).reshape(shape)
        return centred
