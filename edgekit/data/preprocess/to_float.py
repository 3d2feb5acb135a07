"""Numbers become float32, divided by a constant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from edgekit.core.options import Meta, Options
from edgekit.data.inputs import change_input, expect_numbers

if TYPE_CHECKING:
    from edgekit.data.contracts import Array


class ToFloat(Options, frozen=True):
    """Convert to float32 and divide by `scale`: float32(x) / float32(scale)."""

    scale: Annotated[float, Meta(gt=0, description="divisor; 255 maps bytes to 0..1")] = 255.0
    input: Annotated[str | None, Meta(description="input to change; the only one if unset")] = None

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Convert one input, any shape."""
        return change_input(inputs, self.input, "to-float", self._convert)

    def _convert(self, array: Array) -> Array:
        import numpy as np

        expect_numbers(array, "to-float")
        return array.astype(np.float32) / np.float32(self.scale)
