"""The store holds whole entries or none, shares them between builds, and gives them back."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edgekit.core.errors import DeviceError, EdgekitError, InputError
from edgekit.core.files import write_atomic
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.stage import StageResult
from edgekit.pipeline.explain import explain_entry
from edgekit.pipeline.keys import KeyParts
from edgekit.pipeline.plan import difference
from edgekit.pipeline.store import Entry, Store

SPECS = (TensorSpec("image", "float32", (None, 1, 8, 8)),)


def parts(**changed: object) -> KeyParts:
    values: dict[str, object] = {
        "stage": "train",
        "version": 1,
        "options": {"epochs": 1},
        "input": None,
        "uses": {},
        "target": {},
        "data": "d",
        "metric": None,
        "seed": 0,
        "source": "s",
        "tools": {"torch": "2.13.0"},
        "machine": {"num_threads": 2},
        "device": {},
    }
    return KeyParts(**{**values, **changed})  # type: ignore[arg-type]


def fill(store: Store, key_parts: KeyParts, content: bytes = b"weights") -> Entry:
    with store.claim(key_parts.key, lambda: None), store.workspace(key_parts.key) as folder:
        (folder / "payload" / "weights.bin").write_bytes(content)
        handle = ModelHandle(ModelKind.TORCH, folder / "payload", SPECS, SPECS, ("a", "b"))
        result = StageResult(model=handle, metrics=(Metric("top-1", 0.5),), details={"x": [1]})
        return store.add(folder, key_parts, result, 1.5)


def test_entry_is_found_again_with_everything_it_holds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = fill(store, parts())
    assert store.find(entry.key) == entry
    handle = store.handle(entry)
    assert (handle.path / "weights.bin").read_bytes() == b"weights"
    assert handle.inputs == SPECS
    assert handle.labels == ("a", "b")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> None:
        with store.workspace(parts().key) as folder:
            (folder / "payload" / "half").write_bytes(b"half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert store.find(parts().key) is None
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("damage", ["manifest", "payload", "garbage"])
def test_damaged_entry_counts_as_absent_and_is_made_again(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    entry = fill(store, parts())
    folder = store.path(entry.key)
    if damage == "manifest":
        (folder / "manifest.json").unlink()
    elif damage == "payload":
        (folder / "payload" / "weights.bin").unlink()
    else:
        (folder / "manifest.json").write_bytes(b'{"schema": 1')
    assert store.find(entry.key) is None
    assert fill(store, parts()).payload == entry.payload
    assert store.find(entry.key) is not None


def _killed_writer(root: str) -> None:
    with Store(Path(root)).workspace(parts().key) as folder:
        (folder / "payload" / "half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_leftovers_of_a_killed_build_are_cleared_by_the_next(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_writer, args=(str(tmp_path),)
    )
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    store = Store(tmp_path)
    assert store.find(parts().key) is None
    fill(store, parts())
    assert list((tmp_path / "tmp").iterdir()) == []


def _slow_build(root: str, log: str) -> None:
    store = Store(Path(root))
    key = parts().key
    with store.claim(key, lambda: None):
        if store.find(key) is None:
            with Path(log).open("a") as file:
                file.write("made\n")
            with store.workspace(key) as folder:
                (folder / "payload" / "weights.bin").write_bytes(b"weights")
                time.sleep(0.3)
                handle = ModelHandle(ModelKind.TORCH, folder / "payload", SPECS, SPECS)
                store.add(folder, parts(), StageResult(model=handle), 0.3)


def test_two_builds_at_once_make_an_entry_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    arguments = (str(tmp_path / "store"), str(log))
    builds = [context.Process(target=_slow_build, args=arguments) for _ in range(3)]
    for build in builds:
        build.start()
    for build in builds:
        build.join(60)
    assert [build.exitcode for build in builds] == [0, 0, 0]
    assert log.read_text() == "made\n"
    assert Store(tmp_path / "store").find(parts().key) is not None


def test_gc_removes_what_was_not_used_and_keeps_the_rest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = fill(store, parts(seed=1)), fill(store, parts(seed=2))
    past = time.time() - 100
    os.utime(store.path(old.key) / "manifest.json", (past, past))
    removed = store.gc(older_than_s=50, now=time.time())
    assert [entry.key for entry in removed] == [old.key]
    assert store.find(new.key) is not None
    assert not store.path(old.key).exists()


def test_gc_waits_for_no_build_but_refuses(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.in_use(), pytest.raises(EdgekitError, match="a build is running in this store"):
        Store(tmp_path).gc(older_than_s=0, now=time.time())


def test_store_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(InputError, match="Choose a folder you may write to"):
        Store(blocked / "store")


def fill_too_much(store: Store) -> None:
    with store.workspace(parts(seed=9).key) as folder:
        write_atomic(folder / "payload" / "weights.bin", b"x" * 400_000)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_disk_full_keeps_finished_stages_and_says_so(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        store = Store(mount)
        kept = fill(store, parts(), b"x" * 1000)
        (mount / "ballast").write_bytes(b"x" * 150_000)
        with pytest.raises(DeviceError, match=r"no space left.*finished stages are kept") as error:
            fill_too_much(store)
        assert error.value.exit_code == 4
        assert store.find(kept.key) == kept
        assert store.find(parts(seed=9).key) is None
        assert list((mount / "tmp").iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize(
    "field", ["stage", "version", "options", "input", "data", "seed", "source", "tools", "device"]
)
def test_every_part_enters_the_key(field: str) -> None:
    changes: dict[str, object] = {
        "stage": "distill",
        "version": 2,
        "options": {"epochs": 2},
        "input": "k",
        "data": "e",
        "seed": 1,
        "source": "t",
        "tools": {"torch": "2.12.0"},
        "device": {"runner": "local:"},
    }
    assert parts(**{field: changes[field]}).key != parts().key


def test_difference_names_the_parts_that_differ() -> None:
    other = parts(options={"epochs": 2}, tools={"torch": "2.12.0"})
    assert difference(parts(), other) == ("options.epochs", "tools.torch")


def test_explain_compares_with_the_nearest_entry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = fill(store, parts())
    fill(store, parts(options={"epochs": 5}, seed=3))
    near = fill(store, parts(seed=4))
    explanation = explain_entry(store, entry.key[:8])
    assert explanation.other == near
    assert [(row.name, row.this, row.other) for row in explanation.differences] == [("seed", 0, 4)]


def test_explain_refuses_what_is_not_one_entry(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 0 entries that start with it"):
        explain_entry(Store(tmp_path), "abcdef")
