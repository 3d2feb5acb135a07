"""Preprocessing and labels as files, so that a bundle can take raw samples."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from edgekit.core.errors import InputError, near
from edgekit.core.files import explain_os_errors, read_json, write_json
from edgekit.core.model import TensorSpec
from edgekit.core.options import Options
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_variant, to_plain
from edgekit.data.fingerprint import existing, path_fields
from edgekit.data.source import apply_chain

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, PreprocessStep

FILE = "preprocess.json"
_FOLDER = "preprocess"


class PreprocessFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what is written: raw inputs, model inputs, steps as in a recipe, labels."""

    schema: int = 1
    raw_inputs: tuple[TensorSpec, ...]
    inputs: tuple[TensorSpec, ...]
    steps: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """Turn raw samples into model inputs.

    Args:
        raw_inputs: what `apply` takes; text has element type `str`.
        inputs: what `apply` gives.
        steps: entries of the `preprocess` registry.
        labels: class names.
    """

    raw_inputs: tuple[TensorSpec, ...]
    inputs: tuple[TensorSpec, ...]
    steps: tuple[Options, ...]
    labels: tuple[str, ...]

    def apply(self, raw: Mapping[str, object]) -> dict[str, Array]:
        """Preprocess a batch.

        Args:
            raw: what numpy can turn into an array, by input name, batch first.

        Returns:
            The model's inputs, batch first.

        Raises:
            InputError: a name, type or shape is not what the model was built for, or the batch
                sizes differ.
        """
        import numpy as np

        known = [spec.name for spec in self.raw_inputs]
        for name in raw:
            if name not in known:
                raise InputError(f"unknown input '{name}'", hint=near(name, known))
        for name in known:
            if name not in raw:
                raise InputError(f"input '{name}' is missing")
        arrays = {spec.name: _fit(np.asarray(raw[spec.name]), spec) for spec in self.raw_inputs}
        sizes = {len(array) for array in arrays.values()}
        if len(sizes) > 1:
            raise InputError(
                "running a model", found=f"batch sizes {sorted(sizes)}", expected="one batch size"
            )
        return apply_chain(cast("tuple[PreprocessStep, ...]", self.steps), arrays)


def write_preprocessing(
    folder: Path,
    *,
    raw_inputs: Sequence[TensorSpec],
    inputs: Sequence[TensorSpec],
    steps: Sequence[Options],
    labels: Sequence[str],
) -> None:
    """Write `preprocess.json`, and beside it copies of the files its steps read.

    Args:
        folder: where to.
        raw_inputs: `Data.raw_signature()`.
        inputs: the model's inputs.
        steps: the chain.
        labels: class names.

    Raises:
        InputError: a file of a step is missing, or the folder is not writable.
    """
    content = PreprocessFile(
        raw_inputs=tuple(raw_inputs),
        inputs=tuple(inputs),
        steps=tuple(_pack(step, position, folder) for position, step in enumerate(steps)),
        labels=tuple(labels),
    )
    write_json(folder / FILE, content)


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read what `write_preprocessing` wrote.

    Raises:
        InputError: the file is missing or damaged, or a step is unknown or reads outside `folder`.
    """
    content = read_json(folder / FILE, PreprocessFile)
    where = Where(str(folder / FILE), base=folder)
    steps = []
    for position, plain in enumerate(content.steps):
        step = cast(Options, resolve_variant(plain, "preprocess", where.at("steps").at(position)))
        for name in path_fields(type(step)):
            path = getattr(step, name)
            if path is not None and not Path(path).resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"{folder / FILE}: a step reads outside the bundle", found=str(path)
                )
        steps.append(step)
    return Preprocessing(
        raw_inputs=content.raw_inputs,
        inputs=content.inputs,
        steps=tuple(steps),
        labels=content.labels,
    )


def _pack(step: Options, position: int, folder: Path) -> dict[str, Any]:
    name = registry("preprocess").name_of(type(step))
    plain = to_plain(step)
    for field in path_fields(type(step)):
        if plain[field] is None:
            continue
        source = existing(Path(plain[field]), f"preprocess '{name}'")
        relative = Path(_FOLDER) / f"{position}-{source.name}"
        with explain_os_errors(folder / relative):
            (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / relative)
        plain[field] = relative.as_posix()
    return {name: plain}


def _fit(array: Array, spec: TensorSpec) -> Array:
    import numpy as np

    is_text = array.dtype.kind in "UT"
    if is_text != (spec.dtype == "str") or not (
        is_text or np.can_cast(array.dtype, spec.dtype, "same_kind") or _holds(array, spec.dtype)
    ):
        raise InputError(
            f"input '{spec.name}'", found=f"elements of type {array.dtype}", expected=spec.dtype
        )
    fits = len(spec.shape) == array.ndim and all(
        want in {None, have} for want, have in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        shown = ", ".join("batch" if size is None else str(size) for size in spec.shape)
        raise InputError(
            f"input '{spec.name}'", found=f"shape {list(array.shape)}", expected=f"[{shown}]"
        )
    return array if is_text else array.astype(spec.dtype, copy=False)


def _holds(array: Array, dtype: str) -> bool:
    """Tell whether integers all fit an integer type, as lists of bytes do."""
    import numpy as np

    if array.dtype.kind not in "iu" or np.dtype(dtype).kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)
