"""Tensors on their way to a device and back: files in a job's folder, arrays here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgekit.data.tensors import TensorFile as Written
from edgekit.devices.job import JobResult, TensorFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.devices.session import Session

    Array = NDArray[Any]


def job_inputs(place: str, written: Iterable[Written]) -> tuple[TensorFile, ...]:
    """Name written tensors as a job's inputs.

    Args:
        place: Folder on the device that holds them, as `Session.push` returned it.
        written: What `write_tensors` returned, items along axis 0.
    """
    return tuple(
        TensorFile(
            name=tensor.name, file=f"{place}/{tensor.file}", dtype=tensor.dtype, shape=tensor.shape
        )
        for tensor in written
    )


def read_outputs(session: Session, result: JobResult) -> dict[str, Array]:
    """Return a job's outputs by name, items along axis 0; their sizes were checked on arrival."""
    import numpy as np

    return {
        tensor.name: np.fromfile(session.folder / tensor.file, tensor.dtype).reshape(tensor.shape)
        for tensor in result.outputs
    }
