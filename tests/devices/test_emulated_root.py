from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.progress import NullProgress
from edgekit.devices.emulation import apt
from edgekit.devices.emulation import root as root_module
from edgekit.devices.emulation.boards import BOARDS
from edgekit.devices.emulation.qemu import Qemu
from edgekit.devices.emulation.root import (
    PACKAGES,
    WHEELS,
    prepare_root,
    read_manifest,
    root_folder,
    root_recipe,
)

A72 = BOARDS["cortex-a72"]


@pytest.mark.parametrize(("core", "part"), [("cortex-a72", "0xd08"), ("cortex-a76", "0xd0b")])
def test_cpuinfo_names_every_core_and_its_part(core: str, part: str) -> None:
    text = BOARDS[core].cpuinfo(4)
    assert text.count("processor\t:") == 4
    assert text.count(f"CPU part\t: {part}\n") == 4
    assert text.endswith(f"Model\t\t: {BOARDS[core].model}\n")


def test_only_a_pi_5_has_the_dot_product() -> None:
    assert "asimddp" in BOARDS["cortex-a76"].features
    assert "asimddp" not in A72.features


def test_every_board_has_its_own_root() -> None:
    recipes = {root_recipe(board) for board in BOARDS.values()}
    assert len(recipes) == len(BOARDS)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.list", "deb http://one.test/debian bookworm main", "http://one.test/debian"),
        ("a.list", "deb [arch=amd64] https://two.test/debian/ sid main", "https://two.test/debian"),
        ("a.sources", "Types: deb\nURIs: http://three.test/debian\n", "http://three.test/debian"),
    ],
)
def test_packages_come_from_this_computer_s_own_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, found: str
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / name).write_text(text)
    monkeypatch.setattr(apt, "_SOURCES", tmp_path)
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    assert apt.mirror() == found
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://chosen.test/debian")
    assert apt.mirror() == "http://chosen.test/debian"


@pytest.mark.parametrize(
    "text",
    [
        "deb http://four.test/ubuntu noble main",
        "# deb http://five.test/debian sid main",
        "deb http://six.test/debian-security sid main",
    ],
)
def test_computer_without_a_debian_archive_is_told_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "sources.list").write_text(text)
    monkeypatch.setattr(apt, "_SOURCES", tmp_path)
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    with pytest.raises(InputError, match="Set EDGEKIT_DEBIAN_MIRROR to the address"):
        apt.mirror()


def test_without_apt_the_systems_that_have_it_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no program 'apt-get'.*Debian and Ubuntu"):
        apt.download_packages(PACKAGES, tmp_path / "debian")


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not installed")
def test_a_missing_keyring_comes_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "KEYRING", tmp_path / "absent.gpg")
    with pytest.raises(InputError, match="apt-get install debian-archive-keyring"):
        apt.download_packages(PACKAGES, tmp_path / "debian")


@pytest.mark.slow
@pytest.mark.skipif(not apt.KEYRING.exists(), reason="Debian's keyring is not installed")
def test_an_unreachable_mirror_is_a_device_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://127.0.0.1:9/debian")
    with pytest.raises(DeviceError, match=f"127.0.0.1:9.*{apt.MIRROR_VARIABLE}"):
        apt.download_packages(PACKAGES, tmp_path / "debian")
    assert [path.name for path in tmp_path.iterdir()] == ["debian"]  # apt's state is gone


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Packages and qemu are there; what pip and the finished system do is up to a test."""
    package = tmp_path / "libc6_1_arm64.deb"
    package.touch()
    monkeypatch.setattr(root_module, "download_packages", lambda *_: [package])
    monkeypatch.setattr(root_module, "find_qemu", lambda: QEMU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    install(tmp_path / "dpkg", "exit 0")
    return tmp_path


def install(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


QEMU = Qemu(Path("/bin/false"), "7.2", frozenset({"cortex-a72"}), None)


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ("echo 'No module named pip' >&2; exit 1", InputError, "-m ensurepip"),
        ("echo 'no route to host' >&2; exit 1", DeviceError, "no route to host.*pip's settings"),
    ],
)
def test_wheels_that_cannot_be_fetched_are_explained(
    unpacked: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    error: type[Exception],
    said: str,
) -> None:
    monkeypatch.setattr(sys, "executable", str(install(unpacked / "python", script)))
    with pytest.raises(error, match=said):
        prepare_root(A72, unpacked / "cache", NullProgress())
    assert read_manifest(root_folder(A72, unpacked / "cache")) is None


def test_a_system_that_does_not_run_is_not_kept(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_module, "_download_wheels", lambda _: [])
    with pytest.raises(DeviceError, match="starting ONNX Runtime in the emulated board"):
        prepare_root(A72, unpacked / "cache", NullProgress())
    assert not root_folder(A72, unpacked / "cache").exists()


def test_a_damaged_package_is_a_device_error(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_module, "_download_wheels", lambda _: [])
    install(unpacked / "dpkg", "echo 'not a Debian archive' >&2; exit 2")
    with pytest.raises(DeviceError, match="unpacking a Debian package: found not a Debian archive"):
        prepare_root(A72, unpacked / "cache", NullProgress())


_PREPARE = """
import sys
from pathlib import Path
from edgekit.core.progress import NullProgress
from edgekit.devices.emulation.boards import BOARDS
from edgekit.devices.emulation.root import prepare_root
prepare_root(BOARDS["cortex-a72"], Path(sys.argv[1]), NullProgress())
"""


@pytest.mark.emulated
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
def test_a_build_that_was_killed_leaves_no_root_and_the_next_one_completes_it(
    cache_dir: Path, tmp_path: Path
) -> None:
    # What earlier test runs have downloaded is linked, so that this test moves no megabytes.
    prepare_root(A72, cache_dir, NullProgress())
    downloads = cache_dir / "devices" / "downloads"
    shutil.copytree(downloads, tmp_path / "devices" / "downloads", copy_function=os.link)
    root = root_folder(A72, tmp_path)
    first = subprocess.Popen([sys.executable, "-c", _PREPARE, str(tmp_path)])
    deadline = time.monotonic() + 120
    while not root.with_suffix(".building").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert not root.exists()
    builders = [
        threading.Thread(target=prepare_root, args=(A72, tmp_path, NullProgress()))
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    manifest = read_manifest(root)
    assert manifest is not None
    assert manifest.recipe == root_recipe(A72)
    assert len(manifest.packages) == len(PACKAGES)
    assert sorted(manifest.wheels.values()) == sorted(WHEELS.values())
    assert not root.with_suffix(".building").exists()
