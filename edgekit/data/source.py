"""A recipe's data: dataset, split and preprocessing together, loaded when first touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

from edgekit.core.canonical import sha256_json
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.core.options import Options
from edgekit.core.schema import to_plain
from edgekit.data.fingerprint import content_digest
from edgekit.data.samples import Samples, Split, specs_of
from edgekit.data.splits import PARTS, PartName, SplitSpec

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Dataset, Labels, PreprocessStep


class Data:
    """Hold the four parts of a dataset as model inputs.

    Args:
        dataset: an entry of the `datasets` registry.
        split: sizes of the parts.
        preprocess: entries of the `preprocess` registry, applied in order.
        seed: decides which sample goes where, unless the split has its own seed.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        split: SplitSpec | None = None,
        preprocess: Sequence[PreprocessStep] = (),
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.split = split if split is not None else SplitSpec()
        self.preprocess = tuple(preprocess)
        self.seed = seed

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything that decides the parts' content; computed without numpy.

        Raises:
            InputError: the data or a file of a preprocessing step is missing.
        """
        seed = self.seed if self.split.seed is None else self.split.seed
        return sha256_json(
            {
                "dataset": self.dataset.fingerprint(),
                "split": {**to_plain(self.split), "seed": seed},
                "preprocess": [content_digest(step) for step in _as_options(self.preprocess)],
            }
        )

    @cached_property
    def train(self) -> Split:
        """Samples to learn from."""
        return self.part("train")

    @cached_property
    def validation(self) -> Split:
        """Samples to choose by while learning or searching."""
        return self.part("validation")

    @cached_property
    def calibration(self) -> Split:
        """Samples to choose quantization ranges on."""
        return self.part("calibration")

    @cached_property
    def test(self) -> Split:
        """Held-out samples every reported figure is computed on."""
        return self.part("test")

    @property
    def label_names(self) -> tuple[str, ...]:
        """One name per class."""
        return self._samples.label_names

    def require(self, part: PartName) -> None:
        """Refuse a part that the split sets to nothing, before anything is loaded.

        Raises:
            InputError: the recipe gives the part no samples.
        """
        if self.split.is_empty(part):
            raise InputError(
                f"the {part} split is needed here and is empty",
                found=f"data.split.{part}: {getattr(self.split, part)}",
                expected="at least one sample",
                hint=f"Set data.split.{part}, for example to 0.1",
            )

    def part(self, name: PartName) -> Split:
        """Select and preprocess one part.

        Raises:
            InputError: the part is empty, or the data does not fit split or preprocessing.
        """
        self.require(name)
        indices = self._indices[name]
        if not len(indices):
            raise InputError(
                f"the {name} split is needed here and is empty",
                found=f"{len(self._samples)} samples in all",
                expected="at least one sample",
                hint=f"Set data.split.{name}, or lower the other parts",
            )
        raw = {key: array[indices] for key, array in self._samples.inputs.items()}
        return Split(
            name=name,
            inputs=apply_chain(self.preprocess, raw),
            labels=self._samples.labels[indices],
            indices=indices,
        )

    def sizes(self) -> dict[PartName, int]:
        """Count the samples of each part; loads the data."""
        return {name: len(self._indices[name]) for name in PARTS}

    def raw_signature(self) -> tuple[TensorSpec, ...]:
        """Describe the inputs before preprocessing; text has element type `str`."""
        return specs_of(self._samples.inputs)

    def signature(self) -> tuple[TensorSpec, ...]:
        """Describe the model inputs, found by preprocessing one sample."""
        first = {name: array[:1] for name, array in self._samples.inputs.items()}
        return specs_of(apply_chain(self.preprocess, first))

    @cached_property
    def _samples(self) -> Samples:
        return self.dataset.load()

    @cached_property
    def _indices(self) -> Mapping[PartName, Labels]:
        samples = self._samples
        return self.split.indices(samples.labels, samples.num_test, self.seed)


def apply_chain(steps: Sequence[PreprocessStep], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Apply preprocessing steps in order.

    Args:
        steps: the chain.
        inputs: arrays by name, batch first.

    Raises:
        InputError: a step does not fit what it gets.
    """
    current = dict(inputs)
    for step in steps:
        current = step.apply(current)
    return current


def _as_options(steps: Sequence[PreprocessStep]) -> tuple[Options, ...]:
    return cast("tuple[Options, ...]", tuple(steps))
