"""Arrays as a device sees them: raw little-endian files, items one behind another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError
from edgekit.core.files import explain_os_errors
from edgekit.devices.job import ITEM_BYTES, JobResult, TensorFile

if TYPE_CHECKING:
    import numpy as np


def write_inputs(
    folder: Path, arrays: Mapping[str, np.ndarray[Any, np.dtype[Any]]], within: str = ""
) -> tuple[TensorFile, ...]:
    """Write arrays of shape (items, ...) as files and describe them for a job.

    Args:
        folder: Existing folder that receives `0.bin`, `1.bin` and so on.
        arrays: Model input name to array.
        within: Name the folder has on the device, which starts the paths in the job.

    Raises:
        InputError: A dtype that cannot travel, or arrays with different numbers of items.
    """
    import numpy as np

    if len({len(array) for array in arrays.values()}) > 1:
        raise InputError(
            "inputs of a job",
            found=", ".join(f"{len(array)} of '{name}'" for name, array in arrays.items()),
            expected="equally many items of each",
        )
    described = []
    for index, (name, array) in enumerate(arrays.items()):
        dtype = array.dtype.name
        if dtype not in ITEM_BYTES:
            raise InputError(f"input '{name}'", found=dtype, expected=", ".join(ITEM_BYTES))
        path = folder / f"{index}.bin"
        with explain_os_errors(path):
            little = array.dtype.newbyteorder("<")
            np.ascontiguousarray(array, dtype=little).tofile(path)
        file = f"{within}/{index}.bin" if within else f"{index}.bin"
        described.append(TensorFile(name=name, file=file, dtype=dtype, shape=array.shape))
    return tuple(described)


def read_outputs(folder: Path, result: JobResult) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return the outputs of a checked result by name, each of shape (items, ...)."""
    import numpy as np

    return {
        tensor.name: np.fromfile(folder / tensor.file, dtype=np.dtype(tensor.dtype)).reshape(
            tensor.shape
        )
        for tensor in result.outputs
    }
