"""Class labels of any spelling become indices and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, near

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels

_MOST_CLASSES = 100_000


def encode_labels(raw: Array, names: Sequence[str], reader: str) -> tuple[Labels, tuple[str, ...]]:
    """Turn integers or strings into class indices.

    Args:
        raw: integers from 0 or strings, [samples].
        names: class names in order; when empty, the sorted strings or the numbers themselves.
        reader: what is being read, for messages.

    Returns:
        int64 [samples], and one name per class.

    Raises:
        InputError: other types or shapes, negative or huge numbers, or a label without a name.
    """
    import numpy as np

    if raw.ndim != 1 or raw.dtype.kind not in "biuUT":
        raise InputError(
            f"{reader}: reading labels",
            found=f"{raw.dtype} of shape {raw.shape}",
            expected="integers or strings, one per sample",
        )
    if raw.dtype.kind in "UT":
        return _encode_strings(raw, names, reader)
    labels = raw.astype(np.int64)
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    most = len(names) or _MOST_CLASSES
    if low < 0 or high >= most:
        raise InputError(
            f"{reader}: reading labels",
            found=f"class numbers from {low} to {high}",
            expected=f"0 to {most - 1}",
            hint="Give one label name per class" if names else "Number the classes from 0",
        )
    return labels, tuple(names) or tuple(str(i) for i in range(high + 1))


def _encode_strings(
    raw: Array, names: Sequence[str], reader: str
) -> tuple[Labels, tuple[str, ...]]:
    import numpy as np

    found, positions = np.unique(raw, return_inverse=True)
    known = tuple(names) or tuple(str(name) for name in found)
    index = {name: position for position, name in enumerate(known)}
    for name in found:
        if str(name) not in index:
            raise InputError(
                f"{reader}: label '{name}' is not among the label names",
                hint=near(str(name), known),
            )
    lookup = np.array([index[str(name)] for name in found], np.int64)
    return lookup[positions.reshape(-1)], known
