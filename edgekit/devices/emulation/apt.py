"""Fetching Debian's arm64 packages with apt, without root rights and beside the system's own apt.

apt checks signatures and digests; a private configuration and state keep it away from what is
installed on this computer.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgekit.core.errors import DeviceError, InputError

SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "EDGEKIT_DEBIAN_MIRROR"
_SOURCES = Path("/etc/apt")
_MIRROR_URL = re.compile(
    r"(?:^deb\s+(?:\[[^\]]*\]\s+)?|^URIs:\s*)(https?://\S+/debian)/?(?=\s|$)", re.M
)
_TIMEOUT_S = 600


def download_packages(names: Sequence[str], folder: Path) -> list[Path]:
    """Return the newest arm64 files of Debian packages, fetched into `folder` where missing.

    Args:
        names: Packages without their dependencies.
        folder: Keeps the files, so that a second call fetches nothing twice.

    Raises:
        InputError: apt, dpkg or Debian's keyring is not installed.
        DeviceError: apt cannot fetch the packages.
    """
    _require_tools()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="apt-", dir=folder.parent) as state:
        configuration = _write_configuration(Path(state))
        _apt(configuration, folder, "update")
        # Asked from a folder without packages: apt leaves out files that are there already.
        wanted = _apt(configuration, Path(state), "download", "--print-uris", *names)
        _apt(configuration, folder, "download", *names)
    # Lines are 'URL' FILE SIZE DIGEST.
    files = [line.split()[1] for line in wanted.splitlines() if line.startswith("'")]
    return _one_each(names, [folder / file for file in files])


def mirror() -> str:
    """Return the Debian archive to fetch from: the one a variable names, or this computer's own.

    Raises:
        InputError: This computer has no Debian archive in its sources and the variable is unset.
    """
    chosen = os.environ.get(MIRROR_VARIABLE)
    if chosen:
        return chosen
    files = [_SOURCES / "sources.list", *sorted((_SOURCES / "sources.list.d").glob("*"))]
    for file in files:
        with contextlib.suppress(OSError):
            found = _MIRROR_URL.search(file.read_text(encoding="utf-8", errors="replace"))
            if found:
                return found[1]
    raise InputError(
        "fetching the system of an emulated board",
        found="no Debian archive among this computer's package sources",
        hint=f"Set {MIRROR_VARIABLE} to the address of a Debian archive",
    )


def _require_tools() -> None:
    doing = "fetching the system of an emulated board"
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise InputError(
                doing,
                found=f"no program '{program}'",
                hint="It works on Debian and Ubuntu, also in a container of theirs",
            )
    if not KEYRING.exists():
        raise InputError(
            doing, found="no keyring of Debian", hint="apt-get install debian-archive-keyring"
        )


def _write_configuration(state: Path) -> Path:
    # In APT_CONFIG, which is read first: only there the system's own files can be left out. They
    # may hold hooks that touch the system's state; proxies are taken over.
    for name in ("lists/partial", "cache/archives/partial", "sources", "none"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources" / "debian.sources").write_text(
        f"Types: deb\nURIs: {mirror()}\nSuites: {SUITE}\nComponents: main\n"
        f"Architectures: arm64\nSigned-By: {KEYRING}\n",
        encoding="utf-8",
    )
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Debug::NoLocking": "true",
        "Dir::State": f"{state}/",
        "Dir::State::status": f"{state}/status",
        "Dir::Cache": f"{state}/cache/",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": f"{state}/none",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": f"{state}/sources",
    }
    lines = [f'{key} "{value}";' for key, value in options.items()]
    path = state / "apt.conf"
    path.write_text("\n".join([*lines, *_proxies(), ""]), encoding="utf-8")
    return path


def _proxies() -> list[str]:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, timeout=60, check=False
        )
        pattern = re.compile(r'Acquire::https?::\S* "[^"]+";')
        return [line for line in dump.stdout.splitlines() if pattern.fullmatch(line)]
    return []


def _apt(configuration: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}
    doing = f"fetching arm64 packages of Debian from {mirror()} with apt"
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(doing, found=f"no end after {_TIMEOUT_S} s") from error
    # apt-get update ends with 0 and a warning when a server cannot be reached.
    failed = done.returncode != 0 or "W: Failed to fetch" in done.stderr
    if failed:
        raise DeviceError(
            doing,
            found=" ".join(done.stderr.split())[-600:] or f"exit status {done.returncode}",
            hint=f"Check the network, or name another mirror in {MIRROR_VARIABLE}",
        )
    return done.stdout


def _one_each(names: Sequence[str], files: Sequence[Path]) -> list[Path]:
    by_name = {file.name.partition("_")[0]: file for file in files if file.exists()}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DeviceError("fetching arm64 packages of Debian", found=f"no {', '.join(missing)}")
    return [by_name[name] for name in names]
