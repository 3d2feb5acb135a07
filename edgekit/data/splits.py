"""Disjoint train, validation, calibration and test parts, decided by a seed.

Why calibration has a part of its own: an int8 range chosen on test samples flatters the reported
accuracy, and one chosen on training samples sees activations the model has already fitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.data.contracts import Labels

PartName = Literal["train", "validation", "calibration", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "calibration", "test")

_Count = Annotated[int, Meta(ge=0)]
_Fraction = Annotated[float, Meta(ge=0, le=1)]
Size = _Count | _Fraction | Literal["rest"]

_DEFAULT_TEST = 0.2


class SplitSpec(Options, frozen=True):
    """How many samples each part gets: a count, a fraction, or `rest` for what the others leave.

    A dataset with an official test part gives `test` from that part only, and the others from the
    remaining samples; fractions then refer to the part they are drawn from.
    """

    train: Annotated[Size, Meta(description="samples to learn from")] = "rest"
    validation: Annotated[Size, Meta(description="samples to choose by: epochs, methods")] = 0.1
    calibration: Annotated[Size, Meta(description="samples to choose int8 ranges on")] = 0.05
    test: Annotated[
        Size | None,
        Meta(description="samples to report on; by default the official test part, else 0.2"),
    ] = None
    stratify: Annotated[bool, Meta(description="keep class proportions in every part")] = True
    seed: Annotated[
        int | None, Meta(description="seed of the split; by default the recipe's seed")
    ] = None

    def __post_init__(self) -> None:
        """Refuse what no dataset could satisfy."""
        learning = {name: getattr(self, name) for name in PARTS[:3]}
        _check_rests([name for name, size in learning.items() if size == "rest"])
        _check_fractions(learning)

    def is_empty(self, part: PartName) -> bool:
        """Tell whether a part was set to nothing, without looking at the data."""
        size = getattr(self, part)
        return size is not None and size != "rest" and size == 0

    def sizes(self, num_samples: int, num_test: int | None) -> dict[PartName, int]:
        """Turn counts and fractions into counts.

        Fractions are rounded so that those adding up to 1 use every sample.

        Args:
            num_samples: samples of the dataset.
            num_test: of which the last so many are the official test part; None without one.

        Raises:
            InputError: more samples are asked for than there are, or two parts want the rest.
        """
        learning: dict[PartName, Size] = {
            "validation": self.validation,
            "calibration": self.calibration,
            "train": self.train,
        }
        if num_test is None:
            test = _DEFAULT_TEST if self.test is None else self.test
            return _allocate({"test": test, **learning}, num_samples, "dataset")
        test = "rest" if self.test is None else self.test
        return {
            **_allocate({"test": test}, num_test, "official test part"),
            **_allocate(learning, num_samples - num_test, "dataset without its test part"),
        }

    def indices(
        self, labels: Labels, num_test: int | None, seed: int
    ) -> dict[PartName, NDArray[np.int64]]:
        """Choose the samples of each part.

        Changing the size of `train` does not move samples between the other parts.

        Args:
            labels: class of every sample, int64 [samples].
            num_test: size of the official test part at the end, or None.
            seed: used unless the spec has its own.

        Returns:
            Disjoint positions by part, each int64 and shuffled.

        Raises:
            InputError: as for `sizes`.
        """
        import numpy as np

        sizes = self.sizes(len(labels), num_test)
        seed = seed if self.seed is None else self.seed
        num_learning = len(labels) - (num_test or 0)
        order = _shuffled(labels[:num_learning], seed, stratify=self.stratify)
        parts: dict[PartName, NDArray[np.int64]] = {}
        if num_test is not None:
            official = _shuffled(labels[num_learning:], seed + 1, stratify=self.stratify)
            parts["test"] = official[: sizes.pop("test")] + num_learning
        start = 0
        for name, size in sizes.items():
            parts[name] = order[start : start + size].astype(np.int64)
            start += size
        return parts


def _allocate(wanted: dict[PartName, Size], available: int, source: str) -> dict[PartName, int]:
    _check_rests([name for name, size in wanted.items() if size == "rest"])
    _check_fractions(wanted)
    sizes: dict[PartName, int] = {}
    share, used = 0.0, 0
    for name, size in wanted.items():
        if isinstance(size, float):
            before, share = round(share * available), share + size
            sizes[name] = round(share * available) - before
        elif isinstance(size, int):
            sizes[name] = size
        used += sizes.get(name, 0)
    if used > available:
        asked = ", ".join(f"{name} {size}" for name, size in sizes.items() if size)
        raise InputError(
            "splitting the data",
            found=f"{available} samples in the {source}",
            expected=f"at least {used} ({asked})",
            hint="Lower data.split, or write `train: rest`",
        )
    return {name: sizes.get(name, available - used) for name in wanted}


def _check_rests(rests: list[PartName]) -> None:
    if len(rests) > 1:
        raise InputError(
            "splitting the data",
            found=f"'rest' for {' and '.join(sorted(rests))}",
            expected="'rest' for at most one part",
        )


def _check_fractions(wanted: dict[PartName, Size]) -> None:
    total = sum(size for size in wanted.values() if isinstance(size, float))
    if total > 1 + 1e-9:
        raise InputError(
            "splitting the data",
            found=f"fractions adding up to {total:g}",
            expected="at most 1",
        )


def _shuffled(labels: Labels, seed: int, *, stratify: bool) -> NDArray[np.int64]:
    """Order samples at random; with `stratify` every stretch has about the class proportions.

    Each class is shuffled and then spread evenly over [0, 1) from a random start; sorting all
    classes by that position interleaves them.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    luck = rng.random(len(labels))
    if not stratify:
        return np.argsort(luck, kind="stable")
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(luck[members], kind="stable")]
        position[ranked] = (np.arange(len(ranked)) + rng.random()) / len(ranked)
    return np.lexsort((luck, position))
