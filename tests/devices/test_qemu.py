from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.core.errors import DeviceError
from edgekit.core.progress import NullProgress
from edgekit.core.target import load_target
from edgekit.devices.doctor import examine
from edgekit.devices.emulation.qemu import find_qemu, guest_command
from edgekit.devices.session import describe_device, open_session

_FAKE = """#!/bin/sh
case "$*" in
  --version) echo "qemu-aarch64 version {version} (Test)" ;;
  "-cpu help") echo "Available CPUs:"; echo "  cortex-a72" ;;
  --help) echo "usage: qemu {options}" ;;
esac
"""


@pytest.fixture(autouse=True)
def _forget_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No qemu on the PATH but what a test installs."""
    find_qemu.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    yield
    find_qemu.cache_clear()


def install(folder: Path, version: str, options: str = "-plugin") -> None:
    program = folder / "qemu-aarch64"
    program.write_text(_FAKE.format(version=version, options=options))
    program.chmod(0o755)


def test_a_missing_qemu_comes_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="apt-get install qemu-user"):
        open_session("emulated:rpi4", load_target("rpi4"), tmp_path)


def test_a_plan_can_be_made_without_qemu(tmp_path: Path) -> None:
    info = describe_device("emulated:rpi4", load_target("rpi4"), tmp_path)
    assert info.measures == frozenset()
    assert "apt-get install qemu-user" in info.notes[0]


def test_the_doctor_goes_on_behind_a_failed_check(tmp_path: Path) -> None:
    checks = examine("emulated:rpi4", load_target("rpi4"), tmp_path, NullProgress())
    by_name = {check.name: check for check in checks}
    assert not by_name["qemu"].ok
    assert by_name["qemu"].remedy == "apt-get install qemu-user"
    assert by_name["zig"].ok
    assert len(checks) == 7


@pytest.mark.parametrize(
    ("version", "options", "counts"),
    [
        ("6.2.0", "-plugin", True),
        ("8.2.2", "-plugin", True),
        ("7.2.1", "", False),
        ("9.0.0", "-plugin", False),
        ("10.0.2", "-plugin", False),
    ],
)
def test_a_qemu_that_cannot_count_is_described_as_such(
    tmp_path: Path, version: str, options: str, counts: bool
) -> None:
    install(tmp_path, version, options)
    info = describe_device("emulated:rpi4", load_target("rpi4"), tmp_path)
    assert ("instructions" in info.measures) == counts
    assert bool(info.notes) != counts


def test_a_qemu_without_the_core_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "6.2.0")
    with pytest.raises(DeviceError, match=r"6\.2\.0 without core cortex-a76.*7\.2 or newer"):
        open_session("emulated:rpi5", load_target("rpi5"), tmp_path)


def test_a_qemu_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-aarch64").chmod(0o755)
    with pytest.raises(DeviceError, match="no answer"):
        find_qemu()


def test_a_qemu_that_does_not_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "qemu-aarch64").chmod(0o755)
    with pytest.raises(DeviceError, match=r"starting .*apt-get install qemu-user"):
        find_qemu()


def test_a_comma_in_the_plugin_s_path_is_doubled(tmp_path: Path) -> None:
    install(tmp_path, "7.2.0")
    command = guest_command(find_qemu(), "cortex-a72", tmp_path, ["x"], plugin=Path("/a,b/counter"))
    assert "/a,,b/counter" in command.arguments
