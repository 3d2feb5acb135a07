"""A wheel carries all that edgekit reads at run time, and works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgekit

CHECKOUT = Path(__file__).resolve().parents[2]


def run_python(*arguments: str, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Offline: the build backend is the one in this environment.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    run_python("-m", "pip", "wheel", *options, str(CHECKOUT), cwd=folder)
    (built,) = folder.glob("edgekit-*.whl")
    return built


@pytest.fixture(scope="module")
def wheel_files(wheel: Path) -> frozenset[str]:
    with zipfile.ZipFile(wheel) as archive:
        return frozenset(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    run_python("-m", "pip", "install", *options, str(wheel), cwd=folder)
    return folder


def package_files(*suffixes: str) -> set[str]:
    files = (path for path in (CHECKOUT / "edgekit").rglob("*") if path.is_file())
    hidden = ("__pycache__", "_cache")
    return {
        path.relative_to(CHECKOUT).as_posix()
        for path in files
        if not any(part.endswith(hidden) for part in path.parts)
        and (not suffixes or path.suffix in suffixes)
    }


def test_every_file_of_the_package_is_in_the_wheel(wheel_files: frozenset[str]) -> None:
    assert package_files() - wheel_files == set()


def test_native_sources_are_in_the_wheel(wheel_files: frozenset[str]) -> None:
    native = {name for name in package_files(".c", ".h", ".S") if "/native/" in name}
    assert native
    assert native <= wheel_files


def test_the_wheel_is_marked_as_typed(wheel_files: frozenset[str]) -> None:
    assert "edgekit/py.typed" in wheel_files


def test_the_wheel_has_the_version_that_the_package_states(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == edgekit.__version__


@pytest.mark.parametrize("kind", ["targets", "recipes"])
def test_targets_and_recipes_are_in_the_wheel(kind: str, wheel_files: frozenset[str]) -> None:
    names = {path.name for path in (CHECKOUT / kind).glob("*.yaml")}
    assert names
    assert {f"edgekit/_data/{kind}/{name}" for name in names} <= wheel_files


def test_the_wheel_installs_nothing_beside_the_package(wheel_files: frozenset[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgekit"}


@pytest.mark.parametrize("kind", ["targets", "recipes"])
def test_an_installed_wheel_finds_its_data_outside_the_checkout(
    kind: str, installed: Path, tmp_path: Path
) -> None:
    program = (
        "from edgekit.core.assets import asset_names, shipped_folder;"
        f"print(shipped_folder({kind!r}), *asset_names({kind!r}), sep='\\n')"
    )
    found = run_python("-c", program, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    folder, *names = found
    assert Path(folder) == (installed / "edgekit" / "_data" / kind).resolve()
    assert names == sorted(path.stem for path in (CHECKOUT / kind).glob("*.yaml"))


def test_the_command_of_an_installed_wheel_lists_targets(installed: Path, tmp_path: Path) -> None:
    program = "from edgekit.cli.main import main; main()"
    listed = run_python("-c", program, "list", "targets", cwd=tmp_path, PYTHONPATH=str(installed))
    for path in (CHECKOUT / "targets").glob("*.yaml"):
        assert path.stem in listed
