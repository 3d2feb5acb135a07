"""Idx files in a folder, in MNIST's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options, path_option
from edgekit.data.fingerprint import files_digest
from edgekit.data.mnist_folder import IdxPair, find_pair, load_pairs

if TYPE_CHECKING:
    from edgekit.data.samples import Samples


class Idx(Options, frozen=True):
    """Images and labels in idx files, plain or gzip-compressed.

    Input: `image`, [samples, channels, height, width] in the files' type. When the test files
    exist, they are the official test part.
    """

    folder: Annotated[str, path_option("folder of the idx files")]
    train_images: Annotated[str, Meta(description="file name, without .gz")] = (
        "train-images-idx3-ubyte"
    )
    train_labels: Annotated[str, Meta(description="file name, without .gz")] = (
        "train-labels-idx1-ubyte"
    )
    test_images: Annotated[str, Meta(description="file name, without .gz")] = (
        "t10k-images-idx3-ubyte"
    )
    test_labels: Annotated[str, Meta(description="file name, without .gz")] = (
        "t10k-labels-idx1-ubyte"
    )
    label_names: Annotated[
        tuple[str, ...], Meta(description="class names in order; numbers when empty")
    ] = ()

    def describe(self) -> str:
        """Say in one line what this is."""
        return f"idx files in {self.folder}"

    def fingerprint(self) -> str:
        """Digest the files that are there."""
        train, test = self._pairs()
        files = {f"train {role}": path for role, path in train._asdict().items()}
        if test is not None:
            files |= {f"test {role}": path for role, path in test._asdict().items()}
        return files_digest(self, files)

    def load(self) -> Samples:
        """Read the files."""
        return load_pairs(*self._pairs(), self.label_names, "dataset 'idx'")

    def _pairs(self) -> tuple[IdxPair, IdxPair | None]:
        folder = Path(self.folder)
        train = find_pair(folder, self.train_images, self.train_labels)
        if train is None:
            raise InputError(
                f"dataset 'idx': {folder} lacks {self.train_images} or {self.train_labels}",
                hint="Name the files by train_images and train_labels",
            )
        return train, find_pair(folder, self.test_images, self.test_labels)
