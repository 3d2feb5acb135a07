"""A folder of four idx files in MNIST's layout: images and labels, for training and for test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgekit.core.errors import InputError
from edgekit.data.idx_format import read_idx
from edgekit.data.labels import encode_labels
from edgekit.data.samples import Samples

if TYPE_CHECKING:
    from edgekit.data.contracts import Array


class IdxPair(NamedTuple):
    """Images and labels of one part."""

    images: Path
    labels: Path


def find_pair(folder: Path, images: str, labels: str) -> IdxPair | None:
    """Find two files by name, with or without `.gz`; None unless both exist."""
    paths = [_find(folder, name) for name in (images, labels)]
    return IdxPair(*[path for path in paths if path]) if all(paths) else None


def load_pairs(
    train: IdxPair, test: IdxPair | None, label_names: Sequence[str], reader: str
) -> Samples:
    """Read the training part, and the official test part behind it.

    Args:
        train: files of the training part.
        test: files of the test part, if there is one.
        label_names: class names; numbers when empty.
        reader: who reads, for messages.

    Returns:
        Samples with one input `image`; [samples, height, width] files get a channel axis.

    Raises:
        InputError: a file is damaged, or image shapes differ between the parts.
    """
    import numpy as np

    pairs = [train] if test is None else [train, test]
    images = [_with_channels(read_idx(pair.images)) for pair in pairs]
    labels = [read_idx(pair.labels) for pair in pairs]
    for pair, pixels, classes in zip(pairs, images, labels, strict=True):
        if pixels.shape[1:] != images[0].shape[1:] or pixels.dtype != images[0].dtype:
            raise InputError(
                f"{reader}: reading {pair.images}",
                found=f"samples of shape {pixels.shape[1:]}, {pixels.dtype}",
                expected=f"{images[0].shape[1:]}, {images[0].dtype}, as in the training part",
            )
        if classes.ndim != 1 or len(classes) != len(pixels):
            raise InputError(
                f"{reader}: reading {pair.labels}",
                found=f"labels of shape {classes.shape}",
                expected=f"({len(pixels)},), one per sample",
            )
    indices, names = encode_labels(np.concatenate(labels), label_names, reader)
    return Samples(
        inputs={"image": np.concatenate(images)},
        labels=indices,
        label_names=names,
        num_test=None if test is None else len(labels[1]),
    )


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _with_channels(images: Array) -> Array:
    return images[:, None] if images.ndim == 3 else images
