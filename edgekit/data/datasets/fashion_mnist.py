"""Fashion-MNIST as Debian packages it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from edgekit.core.errors import InputError
from edgekit.core.options import Options, path_option
from edgekit.data.fingerprint import files_digest
from edgekit.data.mnist_folder import IdxPair, find_pair, load_pairs

if TYPE_CHECKING:
    from edgekit.data.samples import Samples

_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class FashionMnist(Options, frozen=True):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28, grey, ten classes.

    Input: `image`, uint8 [samples, 1, 28, 28].

    Source: Xiao, Rasul, Vollgraf 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
        Machine Learning Algorithms".
    """

    folder: Annotated[str, path_option("folder of the four idx files, plain or .gz")] = (
        "/usr/share/datasets/fashion-mnist"
    )

    def describe(self) -> str:
        """Say in one line what this is."""
        return f"Fashion-MNIST from {self.folder}"

    def fingerprint(self) -> str:
        """Digest the four files."""
        train, test = self._pairs()
        roles = {"train": train, "test": test}
        return files_digest(
            self,
            {
                f"{part} {role}": path
                for part, pair in roles.items()
                for role, path in pair._asdict().items()
            },
        )

    def load(self) -> Samples:
        """Read all 70,000 images; the last 10,000 are the test part."""
        return load_pairs(*self._pairs(), _NAMES, "dataset 'fashion-mnist'")

    def _pairs(self) -> tuple[IdxPair, IdxPair]:
        folder = Path(self.folder)
        train = find_pair(folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte")
        test = find_pair(folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
        if train is None or test is None:
            raise InputError(
                f"dataset 'fashion-mnist' is not in {folder}",
                hint="apt-get install dataset-fashion-mnist, or set `folder` to the idx files",
            )
        return train, test
