"""The place of a bundle: nobody else's files are replaced, and there is always a whole bundle.

Where the system can exchange two names at once, a reader and a crash at any moment meet either the
old or the new folder. Elsewhere the old one is moved aside first: a crash between the two renames
leaves it whole, beside its place, as `.NAME.previous`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgekit.core.errors import InputError
from edgekit.pipeline.archive import is_archive
from edgekit.pipeline.contents import stamped_files

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Keep other builds from writing bundles here; remove what killed ones left of this one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Network file systems may refuse to lock a folder; the swap is safe without it too.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        for left in place.parent.iterdir():
            if left.name.startswith(f".{place.name}.new-"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(handle)


def refuse_foreign(place: Path) -> None:
    """Refuse to replace a folder with anything in it that edgekit did not write.

    Raises:
        InputError: What is there, and how to go on.
    """
    if not os.path.lexists(place):
        return
    if place.is_symlink() or not place.is_dir():
        raise _taken(place, "a file or link")
    found = [path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()]
    known = stamped_files(place)
    if found and known is None:
        raise _taken(place, "a folder that is not an edgekit bundle")
    foreign = sorted(set(found) - (known or frozenset()))
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise _taken(place, f"{foreign[0]}{more}, which edgekit did not write")


def refuse_foreign_archive(archive: Path) -> None:
    """Refuse to replace a file that edgekit did not write.

    Raises:
        InputError: What is there, and how to go on.
    """
    if os.path.lexists(archive) and (archive.is_symlink() or not is_archive(archive)):
        raise _taken(archive, "something other than an archive of edgekit")


def _taken(place: Path, found: str) -> InputError:
    return InputError(
        f"writing {place}",
        found=found,
        hint="Move it away, or choose another folder with --output",
    )


def replace_folder(new: Path, place: Path) -> None:
    """Move folder `new` to `place` and remove what was there.

    Args:
        new: A folder beside `place`, on the same file system.
        place: A folder, or a name that is free.
    """
    _sync(new)
    if not place.exists():
        new.rename(place)
        shutil.rmtree(_aside(place), ignore_errors=True)
    elif _exchange(new, place):
        shutil.rmtree(new, ignore_errors=True)
    else:
        replace_in_two_steps(new, place)


def replace_in_two_steps(new: Path, place: Path) -> None:
    """Do the same where names cannot be exchanged; the old folder is moved aside first."""
    shutil.rmtree(_aside(place), ignore_errors=True)
    place.rename(_aside(place))
    new.rename(place)
    shutil.rmtree(_aside(place), ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.previous")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or its file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync(folder: Path) -> None:
    # After a power cut the swap must not have outlived the contents.
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
