"""Give samples another shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.data.inputs import change_input

if TYPE_CHECKING:
    from edgekit.data.contracts import Array

_Dim = Annotated[int, Meta(ge=-1)]


class Reshape(Options, frozen=True):
    """Reshape every sample; the batch axis stays."""

    shape: Annotated[tuple[_Dim, ...], Meta(description="of one sample; one size may be -1")]
    input: Annotated[str | None, Meta(description="input to change; the only one if unset")] = None

    def __post_init__(self) -> None:
        """Refuse shapes that no sample can take."""
        if self.shape.count(-1) > 1 or 0 in self.shape:
            raise InputError(
                "preprocess 'reshape'",
                found=f"shape {list(self.shape)}",
                expected="positive sizes and at most one -1",
            )

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Reshape one input [batch, ...]."""
        return change_input(inputs, self.input, "reshape", self._reshape)

    def _reshape(self, array: Array) -> Array:
        have = math.prod(array.shape[1:])
        known = math.prod(size for size in self.shape if size != -1)
        fits = have % known == 0 if -1 in self.shape else have == known
        if not fits:
            raise InputError(
                "preprocess 'reshape'",
                found=f"samples of shape {array.shape[1:]}",
                expected=f"{known} elements, as in {list(self.shape)}",
            )
        shape = [have // known if size == -1 else size for size in self.shape]
        return array.reshape(len(array), *shape)
