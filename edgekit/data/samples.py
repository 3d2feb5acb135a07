"""Samples as loaded, and the parts they are split into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """All samples of a dataset, before preprocessing.

    Attributes:
        inputs: arrays by input name, sample first. Images are uint8 [samples, channels, height,
            width]; text is a numpy string array [samples].
        labels: int64 [samples], indices into `label_names`.
        label_names: one name per class.
        num_test: the last `num_test` samples are the official test part; None when there is none.

    Raises:
        InputError: the arrays differ in length, there are no samples, or a label has no name.
    """

    inputs: Mapping[str, Array]
    labels: Labels
    label_names: tuple[str, ...]
    num_test: int | None = None

    def __post_init__(self) -> None:
        num_samples = len(self.labels)
        if not num_samples or not self.inputs:
            raise InputError("reading a dataset", found="no samples", expected="at least one")
        for name, array in self.inputs.items():
            if len(array) != num_samples:
                raise InputError(
                    "reading a dataset",
                    found=f"{len(array)} samples in '{name}' and {num_samples} labels",
                    expected="one label per sample",
                )
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.label_names):
            raise InputError(
                "reading a dataset",
                found=f"labels from {self.labels.min()} to {self.labels.max()}",
                expected=f"0 to {len(self.label_names) - 1}, as there are label names",
            )
        if self.num_test is not None and not 0 <= self.num_test <= num_samples:
            raise InputError(
                "reading a dataset",
                found=f"a test part of {self.num_test} samples",
                expected=f"0 to {num_samples}",
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One part of a dataset, preprocessed.

    Attributes:
        name: train, validation, calibration or test.
        inputs: model inputs by name, sample first.
        labels: int64 [samples].
        indices: position of each sample in the dataset, int64 [samples].
    """

    name: str
    inputs: Mapping[str, Array]
    labels: Labels
    indices: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, num_samples: int) -> Split:
        """Give the first `num_samples`; samples are shuffled already, so this is a fair subset.

        Raises:
            InputError: the split has fewer.
        """
        if num_samples > len(self):
            raise InputError(
                f"taking a subset of the {self.name} split",
                found=f"{len(self)} samples",
                expected=f"at least {num_samples}",
                hint=f"Lower the subset size or raise data.split.{self.name}",
            )
        return self._slice(0, num_samples)

    def batches(self, batch_size: int) -> Iterator[Split]:
        """Yield consecutive pieces of `batch_size` samples; the last may be shorter."""
        for start in range(0, len(self), batch_size):
            yield self._slice(start, start + batch_size)

    def _slice(self, start: int, stop: int) -> Split:
        return Split(
            name=self.name,
            inputs={name: array[start:stop] for name, array in self.inputs.items()},
            labels=self.labels[start:stop],
            indices=self.indices[start:stop],
        )


def specs_of(inputs: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """Describe arrays by name, element type (`str` for text) and shape with an open batch."""
    return tuple(
        TensorSpec(
            name,
            "str" if array.dtype.kind in "UT" else array.dtype.name,
            (None, *array.shape[1:]),
        )
        for name, array in inputs.items()
    )
