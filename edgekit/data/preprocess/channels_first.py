"""Move the channel axis to where models expect it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.data.inputs import change_input, expect_numbers

if TYPE_CHECKING:
    from edgekit.data.contracts import Array


class ChannelsFirst(Options, frozen=True):
    """Turn [batch, height, width, channels] or [batch, height, width] into channels first.

    edgekit's own image datasets give channels first already; arrays from elsewhere often do not.
    """

    input: Annotated[str | None, Meta(description="input to change; the only one if unset")] = None

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Give one input as [batch, channels, height, width]."""
        return change_input(inputs, self.input, "channels-first", _move)


def _move(array: Array) -> Array:
    import numpy as np

    expect_numbers(array, "channels-first")
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise InputError(
            "preprocess 'channels-first'",
            found=f"shape {array.shape}",
            expected="[batch, height, width] or [batch, height, width, channels]",
        )
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
