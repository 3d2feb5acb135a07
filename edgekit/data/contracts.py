"""What a dataset, a preprocessing step and a metric must offer.

Entries are frozen option structs whose fields are the recipe's options; conformance is structural.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.data.samples import Samples

    Array = NDArray[Any]
    Labels = NDArray[np.int64]


class Dataset(Protocol):
    """A source of labelled samples."""

    def describe(self) -> str:
        """Say in one line what this is; reads nothing."""
        ...

    def fingerprint(self) -> str:
        """Digest every byte and option that influences `load`, without importing numpy.

        Raises:
            InputError: The data is missing; the hint says how to get it.
        """
        ...

    def load(self) -> Samples:
        """Read all samples into memory.

        Raises:
            InputError: The data is missing, damaged, hostile or does not fit the options.
        """
        ...


class PreprocessStep(Protocol):
    """One step between raw samples and model inputs."""

    def apply(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Turn named inputs (batch first) into named inputs; most steps change one of them.

        Raises:
            InputError: The named input is missing, or its shape or type does not fit.
        """
        ...


class MetricFunction(Protocol):
    """A figure computed from model outputs and labels. `requires_code` marks user functions."""

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which direction is an improvement."""
        ...

    @property
    def unit(self) -> str:
        """Unit as printed; empty for fractions."""
        ...

    def compute(self, outputs: Array | Mapping[str, Array], labels: Labels) -> float:
        """Compute the figure.

        Args:
            outputs: scores [batch, classes], or model outputs by name.
            labels: class indices [batch].

        Raises:
            InputError: The outputs do not fit this metric.
            StageError: The outputs hold NaN.
        """
        ...
