"""The store: finished stages on disk, found again by key.

`ab/abcd.../{manifest.json,payload/}`. An entry is written beside and renamed into place, so it is
either absent or whole; only success is stored. Builds that need the same entry at once wait for
one another through a lock that the system releases when its holder dies.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgekit.core.canonical import sha256_json, sha256_tree
from edgekit.core.errors import EdgekitError
from edgekit.core.files import explain_os_errors, write_json
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.stage import StageResult
from edgekit.pipeline.keys import KeyParts

SCHEMA = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one finished stage; `manifest.json` of a store entry."""

    key: str
    parts: KeyParts
    kind: ModelKind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    metrics: tuple[Metric, ...]
    warnings: tuple[str, ...]
    details: dict[str, Any]
    files: dict[str, str]
    payload: str
    size_bytes: int
    duration_s: float
    created: str
    schema: int = SCHEMA


class Store:
    """Keep and find finished stages below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with explain_os_errors(root):
            for name in ("tmp", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return the folder of an entry, whether it exists or not."""
        return self.root / key[:2] / key

    def find(self, key: str) -> Entry | None:
        """Return an entry, or None when it is absent or not whole."""
        folder = self.path(key)
        try:
            entry = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Entry)
        except (OSError, msgspec.MsgspecError):
            return None
        payload = folder / "payload"
        whole = entry.schema == SCHEMA and all((payload / name).is_file() for name in entry.files)
        return entry if whole else None

    def handle(self, entry: Entry) -> ModelHandle:
        """Return the model of an entry."""
        payload = self.path(entry.key) / "payload"
        return ModelHandle(entry.kind, payload, entry.inputs, entry.outputs, entry.labels)

    def touch(self, key: str) -> None:
        """Remember that an entry was used, for `gc`."""
        with contextlib.suppress(OSError):
            os.utime(self.path(key) / "manifest.json")

    @contextlib.contextmanager
    def claim(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the right to make one entry; `waiting` is called when another build has it."""
        with explain_os_errors(self.root):
            lock = (self.root / "locks" / f"{key}.lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep `gc` from removing entries while a build reads them."""
        with (self.root / "in-use.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def workspace(self, key: str) -> Iterator[Path]:
        """Give a fresh folder with `payload` and `scratch`, removed at the end whatever happens.

        Call it while `claim` is held: leftovers of a killed build of the same entry are removed.
        """
        for left in (self.root / "tmp").glob(f"{key}.*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self.root / "tmp" / f"{key}.{uuid.uuid4().hex[:8]}"
        with explain_os_errors(folder):
            (folder / "payload").mkdir(parents=True)
            (folder / "scratch").mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, folder: Path, parts: KeyParts, result: StageResult, duration_s: float) -> Entry:
        """Move a finished workspace into place and return its entry."""
        payload = folder / "payload"
        files = sha256_tree(payload)
        sizes = sum((payload / name).stat().st_size for name in files)
        entry = Entry(
            key=parts.key,
            parts=parts,
            kind=result.model.kind,
            inputs=result.model.inputs,
            outputs=result.model.outputs,
            labels=result.model.labels,
            metrics=result.metrics,
            warnings=result.warnings,
            details=result.details,
            files=files,
            payload=sha256_json(files),
            size_bytes=sizes,
            duration_s=round(duration_s, 3),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        with explain_os_errors(folder):
            write_json(folder / "manifest.json", entry)
            _sync(payload)
            shutil.rmtree(folder / "scratch", ignore_errors=True)
            target = self.path(entry.key)
            target.parent.mkdir(exist_ok=True)
            old = folder.with_name(f"{folder.name}.old")
            if target.exists():  # not whole, or `--remeasure`: the new one takes its place
                target.rename(old)
            folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        return entry

    def entries(self) -> Iterator[Entry]:
        """Yield every whole entry."""
        for folder in sorted(self.root.glob("??/*")):
            entry = self.find(folder.name)
            if entry is not None:
                yield entry

    def last_used(self, entry: Entry) -> float:
        """Return when an entry was last used, in seconds since the epoch."""
        return (self.path(entry.key) / "manifest.json").stat().st_mtime

    def remove(self, key: str) -> None:
        """Remove an entry: first out of sight by renaming, then for good."""
        gone = self.root / "tmp" / f"{key}.{uuid.uuid4().hex[:8]}.gone"
        with contextlib.suppress(FileNotFoundError):
            self.path(key).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def gc(self, *, older_than_s: float, now: float) -> tuple[Entry, ...]:
        """Remove entries unused for longer than `older_than_s`, and what killed builds left.

        Raises:
            EdgekitError: A build is running in this store.
        """
        with (self.root / "in-use.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise EdgekitError(
                    "a build is running in this store", hint="Wait until it has finished"
                ) from error
            removed = tuple(
                entry for entry in self.entries() if now - self.last_used(entry) > older_than_s
            )
            for entry in removed:
                self.remove(entry.key)
            for left in [*(self.root / "tmp").iterdir(), *(self.root / "locks").iterdir()]:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
            for folder in self.root.glob("??"):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return removed


def _sync(payload: Path) -> None:
    # A power cut after the rename must not leave an entry with empty files.
    for path in payload.rglob("*"):
        if path.is_file() and not path.is_symlink():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
