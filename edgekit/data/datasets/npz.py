"""Arrays in one .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

from edgekit.core.errors import InputError, near
from edgekit.core.options import Meta, Options, path_option
from edgekit.data.fingerprint import existing, files_digest

if TYPE_CHECKING:
    from edgekit.data.contracts import Array
    from edgekit.data.samples import Samples


class Npz(Options, frozen=True):
    """Inputs and labels as named arrays of one .npz file; pickled objects are refused.

    Inputs keep their names. Text is a string array (`numpy.array(list_of_str)`); labels are
    integers or strings.
    """

    path: Annotated[str, path_option("the .npz file")]
    inputs: Annotated[
        tuple[str, ...], Meta(min_length=1, description="names of the input arrays")
    ] = ("x",)
    labels: Annotated[str, Meta(description="name of the label array")] = "y"
    label_names: Annotated[
        tuple[str, ...],
        Meta(description="class names in order; numbers or the sorted strings when empty"),
    ] = ()
    num_test: Annotated[
        int | None, Meta(ge=1, description="the last so many samples are the official test part")
    ] = None
    max_mib: Annotated[int, Meta(ge=1, description="refuse files that unpack to more")] = 4096

    def describe(self) -> str:
        """Say in one line what this is."""
        return f"arrays of {self.path}"

    def fingerprint(self) -> str:
        """Digest the file."""
        return files_digest(self, {"npz": existing(Path(self.path), "dataset 'npz'")})

    def load(self) -> Samples:
        """Read the named arrays."""
        from edgekit.data.labels import encode_labels
        from edgekit.data.samples import Samples

        path = existing(Path(self.path), "dataset 'npz'")
        arrays = self._read(path, (*self.inputs, self.labels))
        indices, names = encode_labels(arrays[self.labels], self.label_names, "dataset 'npz'")
        return Samples(
            inputs={name: arrays[name] for name in self.inputs},
            labels=indices,
            label_names=names,
            num_test=self.num_test,
        )

    def _read(self, path: Path, names: tuple[str, ...]) -> dict[str, Array]:
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                for name in names:
                    if name not in members:
                        raise InputError(
                            f"dataset 'npz': {path} has no array '{name}'",
                            hint=near(name, members),
                        )
                self._check_size(path, [members[name] for name in names])
                found: dict[str, Array] = {}
                for name in names:
                    with archive.open(members[name]) as file:
                        found[name] = _read_array(file, members[name].file_size, path, name)
                return found
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
            raise InputError(
                f"dataset 'npz': reading {path}",
                found=f"a damaged file ({error})",
                expected="an archive written by numpy.savez",
            ) from error

    def _check_size(self, path: Path, members: list[zipfile.ZipInfo]) -> None:
        claimed = sum(info.file_size for info in members)
        if claimed > self.max_mib << 20:
            raise InputError(
                f"dataset 'npz': {path} is too large",
                found=f"{claimed >> 20} MiB unpacked",
                expected=f"at most {self.max_mib} MiB",
                hint="Raise max_mib if you trust the file; strings are padded to the longest",
            )


def _read_array(file: IO[bytes], size: int, path: Path, name: str) -> Array:
    """Read one array whose header must agree with the archive about its size."""
    import numpy as np
    from numpy.lib import format as npy

    doing = f"dataset 'npz': reading array '{name}' of {path}"
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
    except ValueError as error:
        raise InputError(doing, found=str(error), expected="a plain .npy array") from error
    if dtype.hasobject:
        raise InputError(
            doing,
            found="pickled Python objects",
            expected="numbers or strings",
            hint="Save text as numpy.array(texts, dtype=str); unpickling could run any code",
        )
    num_bytes = dtype.itemsize
    for dim in shape:
        num_bytes *= dim
    if num_bytes != size - file.tell():
        raise InputError(
            doing,
            found=f"{size - file.tell()} bytes of values",
            expected=f"{num_bytes} for shape {shape} of {dtype}",
        )
    array = np.frombuffer(bytearray(file.read(num_bytes)), dtype)
    ordered = array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)
    return np.ascontiguousarray(ordered.astype(dtype.newbyteorder("="), copy=False))
