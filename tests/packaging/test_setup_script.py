"""The set-up script does nothing twice and says what it cannot do.

Each test runs the real script in a small stand-in for a checkout. The commands it may call are on
a PATH of their own, so nothing is installed on the machine that runs the tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
INPUTS = ("pyproject.toml", "constraints.txt", "scripts/setup.sh")
COREUTILS = ("bash", "cat", "dirname", "env", "grep", "mktemp", "rm", "sha256sum", "tail")


def write_command(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


class StandIn:
    """Hold a folder that looks like a checkout which was set up before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands = root.parent / "commands"
        for name in INPUTS:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, root / name)
        for name in COREUTILS:
            found = shutil.which(name)
            assert found is not None
            write_command(self.commands / name, f'exec {found} "$@"')
        write_command(self.commands / "apt-get", "echo called >&2; exit 1")
        write_command(self.commands / "id", "echo 1000")
        write_command(self.commands / "qemu-aarch64", "exit 0")
        write_command(root / ".venv/bin/edgekit", "exit 0")
        self.mark_as_done()

    def mark_as_done(self) -> None:
        parts = (f"{self.root}\n".encode(), *((self.root / name).read_bytes() for name in INPUTS))
        stamp = f"{hashlib.sha256(b''.join(parts)).hexdigest()}  -\n"
        (self.root / ".venv/setup.stamp").write_text(stamp)

    def replace_python(self, pip: str) -> None:
        # Asked by `-c` it tells its folder, as a sound environment does.
        tell = f'if [ "$1" = -c ]; then echo "{self.root}/.venv"; exit; fi'
        write_command(self.root / ".venv/bin/python", f"{tell}\n{pip}")

    def set_up(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "scripts/setup.sh")],
            env={"PATH": str(self.commands), "HOME": os.devnull} | environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> StandIn:
    root = tmp_path.resolve() / "edgekit"
    root.mkdir()
    return StandIn(root)


def test_a_finished_set_up_does_nothing_from_any_folder(checkout: StandIn) -> None:
    finished = checkout.set_up()
    assert finished.returncode == 0
    assert "installing" not in finished.stdout
    assert finished.stderr == ""


def test_a_user_without_root_is_given_the_exact_command_and_goes_on(checkout: StandIn) -> None:
    (checkout.commands / "qemu-aarch64").unlink()
    finished = checkout.set_up()
    command = "sudo apt-get update && sudo apt-get install -y --no-install-recommends qemu-user"
    assert finished.returncode == 0
    assert command in finished.stdout


def test_a_system_without_apt_is_told_what_is_missing(checkout: StandIn) -> None:
    (checkout.commands / "qemu-aarch64").unlink()
    (checkout.commands / "apt-get").unlink()
    finished = checkout.set_up()
    assert finished.returncode == 0
    assert "not found: qemu-user" in finished.stdout
    assert "sudo" not in finished.stdout


def test_a_package_that_root_cannot_install_does_not_stop_the_rest(checkout: StandIn) -> None:
    (checkout.commands / "qemu-aarch64").unlink()
    write_command(checkout.commands / "id", "echo 0")
    finished = checkout.set_up()
    assert finished.returncode == 0
    assert "could not install qemu-user" in finished.stdout


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again(checkout: StandIn, name: str) -> None:
    with (checkout.root / name).open("a") as file:
        file.write("\n# changed\n")
    checkout.replace_python('echo "$@"')
    finished = checkout.set_up()
    assert "installing Python dependencies" in finished.stdout
    assert "--constraint constraints.txt" in (checkout.root / ".venv/setup.log").read_text()
    assert "installing" not in checkout.set_up().stdout


def test_torch_alone_comes_from_the_index_that_is_named(checkout: StandIn) -> None:
    (checkout.root / ".venv/setup.stamp").unlink()
    checkout.replace_python('echo "$@"')
    finished = checkout.set_up(EDGEKIT_TORCH_INDEX="file:///index")
    assert finished.returncode == 0, finished.stderr
    calls = (checkout.root / ".venv/setup.log").read_text().splitlines()
    (from_index,) = (call for call in calls if "file:///index" in call)
    assert from_index.endswith("--no-deps --index-url file:///index torch")


def test_a_failed_installation_shows_why_and_is_tried_again(checkout: StandIn) -> None:
    (checkout.root / ".venv/setup.stamp").unlink()
    checkout.replace_python('echo "no such version"; exit 1')
    finished = checkout.set_up()
    assert finished.returncode == 1
    assert "no such version" in finished.stderr
    assert "pip could not install" in finished.stderr
    assert not (checkout.root / ".venv/setup.stamp").exists()


def test_a_missing_python_is_an_error_that_says_how_to_name_one(checkout: StandIn) -> None:
    shutil.rmtree(checkout.root / ".venv")
    finished = checkout.set_up(EDGEKIT_PYTHON="/nowhere/python3.11")
    assert finished.returncode == 1
    assert "found no Python 3.11 or newer with the venv module as /nowhere" in finished.stderr
    assert "EDGEKIT_PYTHON=" in finished.stderr


def test_a_user_without_root_is_told_which_python_packages_to_install(checkout: StandIn) -> None:
    shutil.rmtree(checkout.root / ".venv")
    finished = checkout.set_up()
    assert finished.returncode == 1
    assert "sudo apt-get install -y python3 python3-venv" in finished.stderr
