"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError
from edgekit.core.options import Options
from edgekit.data.fingerprint import files_digest

if TYPE_CHECKING:
    from edgekit.data.samples import Samples


class Digits(Options, frozen=True):
    """Handwritten digits of scikit-learn: 1,797 images, 8x8, grey levels 0 to 16, ten classes.

    Input: `image`, uint8 [samples, 1, 8, 8]. No official test part. The file is read directly, so
    scikit-learn has to be installed but is never imported.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository.
    """

    def describe(self) -> str:
        """Say in one line what this is."""
        return "scikit-learn's handwritten digits"

    def fingerprint(self) -> str:
        """Digest the file inside scikit-learn."""
        return files_digest(self, {"digits": self._file()})

    def load(self) -> Samples:
        """Read all images."""
        import numpy as np

        from edgekit.data.samples import Samples

        with gzip.open(self._file(), "rt", encoding="ascii") as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
        return Samples(
            inputs={"image": rows[:, :64].reshape(-1, 1, 8, 8)},
            labels=rows[:, 64].astype(np.int64),
            label_names=tuple(str(digit) for digit in range(10)),
        )

    def _file(self) -> Path:
        spec = importlib.util.find_spec("sklearn")
        origin = Path(spec.origin) if spec is not None and spec.origin else Path()
        path = origin.parent / "datasets" / "data" / "digits.csv.gz"
        if not path.is_file():
            raise InputError(
                "dataset 'digits' is part of scikit-learn, which is not installed",
                hint="pip install 'edgekit[data]'",
            )
        return path
