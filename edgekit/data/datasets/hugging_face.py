"""Datasets of the Hugging Face Hub, or saved by the `datasets` package."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from edgekit.core.canonical import sha256_json
from edgekit.core.errors import InputError, near
from edgekit.core.options import Meta, Options, path_option
from edgekit.data.fingerprint import content_digest, existing

if TYPE_CHECKING:
    from edgekit.data.contracts import Array
    from edgekit.data.samples import Samples


class HuggingFace(Options, frozen=True):
    """A data set of the Hugging Face Hub by name and commit, or a folder from `save_to_disk`.

    A Hub data set needs its commit: a branch can change under a cached build. Code that comes with
    a data set is never run. Inputs are columns: images become uint8 [samples, channels, height,
    width], text a string array, numbers stay as they are.
    """

    name: Annotated[str | None, Meta(description="name on the Hub, such as `ylecun/mnist`")] = None
    folder: Annotated[str | None, path_option("folder written by Dataset(Dict).save_to_disk")] = (
        None
    )
    config: Annotated[str | None, Meta(description="configuration of the data set")] = None
    revision: Annotated[str | None, Meta(description="commit on the Hub, 40 hex digits")] = None
    train_split: Annotated[str, Meta(description="split to learn from")] = "train"
    test_split: Annotated[str | None, Meta(description="official test part; null for none")] = None
    inputs: Annotated[
        tuple[str, ...], Meta(min_length=1, description="columns that are model inputs")
    ] = ("image",)
    labels: Annotated[str, Meta(description="column of the class")] = "label"

    def __post_init__(self) -> None:
        """Refuse a data set that is not named, or that could change under a cached build."""
        if (self.name is None) == (self.folder is None):
            raise InputError(
                "dataset 'hugging-face'",
                found="both name and folder" if self.name else "neither name nor folder",
                expected="one of them",
            )
        if self.name is not None and not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            raise InputError(
                f"dataset 'hugging-face': '{self.name}' without a fixed revision",
                found=f"revision {self.revision}",
                expected="a commit of 40 hex digits",
                hint=f"Copy it from https://huggingface.co/datasets/{self.name}/commits/main",
            )

    def describe(self) -> str:
        """Say in one line what this is."""
        return f"Hugging Face data set {self.name or self.folder}"

    def fingerprint(self) -> str:
        """Digest the folder, or name the commit."""
        if self.folder is not None:
            existing(Path(self.folder), "dataset 'hugging-face'")
        return sha256_json({"hugging-face": content_digest(self)})

    def load(self) -> Samples:
        """Read the columns through the `datasets` package.

        Raises:
            InputError: the package, the data set, a split or a column is missing.
        """
        import numpy as np

        from edgekit.data.labels import encode_labels
        from edgekit.data.samples import Samples

        splits = self._open()
        names = [self.train_split] + ([self.test_split] if self.test_split else [])
        parts = [_pick(splits, name, "split") for name in names]
        columns = {
            name: np.concatenate([_column(part, name) for part in parts])
            for name in (*self.inputs, self.labels)
        }
        class_names = tuple(getattr(parts[0].features[self.labels], "names", ()) or ())
        labels, label_names = encode_labels(
            columns[self.labels], class_names, "dataset 'hugging-face'"
        )
        return Samples(
            inputs={name: columns[name] for name in self.inputs},
            labels=labels,
            label_names=label_names,
            num_test=len(parts[1]) if self.test_split else None,
        )

    def _open(self) -> dict[str, Any]:
        datasets = _package()
        try:
            if self.folder is not None:
                loaded = datasets.load_from_disk(self.folder)
            else:
                loaded = datasets.load_dataset(self.name, self.config, revision=self.revision)
        except (OSError, ValueError, ConnectionError) as error:
            raise InputError(
                f"dataset 'hugging-face': opening {self.name or self.folder}",
                found=f"{type(error).__name__}: {error}",
            ) from error
        return dict(loaded) if isinstance(loaded, dict) else {self.train_split: loaded}


def _package() -> Any:  # noqa: ANN401 - untyped package
    try:
        return importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise InputError(
            "dataset 'hugging-face' needs the Python package 'datasets'",
            hint="pip install datasets",
        ) from error


def _pick(known: dict[str, Any], name: str, what: str) -> Any:  # noqa: ANN401 - untyped package
    if name not in known:
        raise InputError(f"dataset 'hugging-face': no {what} '{name}'", hint=near(name, known))
    return known[name]


def _column(part: Any, name: str) -> Array:  # noqa: ANN401 - untyped package
    import numpy as np

    _pick(dict(part.features), name, "column")
    values = list(part[name])
    doing = f"dataset 'hugging-face': column '{name}'"
    if values and hasattr(values[0], "convert"):
        values = [_pixels(image) for image in values]
    if values and isinstance(values[0], str):
        # A fixed-width array would give every text the room of the longest one.
        return np.array(values, dtype=np.dtypes.StringDType())
    try:
        array = np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)
    except (ValueError, IndexError) as error:
        raise InputError(
            doing, found="values of different shapes, or none", expected="one common shape"
        ) from error
    if array.dtype.hasobject:
        raise InputError(doing, found="mixed values", expected="images, text or numbers")
    return array


def _pixels(image: Any) -> Array:  # noqa: ANN401 - a Pillow image; Pillow is optional
    import numpy as np

    plain = image if image.mode in {"L", "RGB"} else image.convert("RGB")
    array = np.asarray(plain, np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
