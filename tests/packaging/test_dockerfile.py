"""The Dockerfile names only what exists and what the build context contains."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path, PurePosixPath

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def instructions() -> list[list[str]]:
    text = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [shlex.split(line) for line in lines]


def copied_paths() -> list[str]:
    copies = (words[1:-1] for words in instructions() if words[0] == "COPY")
    return [str(PurePosixPath(path)) for paths in copies for path in paths]


def scripts() -> list[str]:
    runs = (words[1:] for words in instructions() if words[0] == "RUN")
    return [word for words in runs for word in words if word.startswith("scripts/")]


def ignored_by(path: str) -> str | None:
    """Return the pattern of .dockerignore that keeps a path out of the build context."""
    patterns = (CHECKOUT / ".dockerignore").read_text().split()
    candidates = [path, *(str(parent) for parent in PurePosixPath(path).parents)]
    for pattern in patterns:
        assert not pattern.startswith("!"), "exceptions are not understood here"
        glob = re.sub(r"^\*\*/", "", pattern)
        for candidate in candidates:
            name = PurePosixPath(candidate).name if glob != pattern else candidate
            if fnmatch.fnmatchcase(name, glob):
                return pattern
    return None


@pytest.mark.parametrize("path", [*copied_paths(), *scripts()])
def test_every_path_it_names_exists(path: str) -> None:
    assert (CHECKOUT / path).exists()


@pytest.mark.parametrize(
    "path",
    [*copied_paths(), *scripts(), "edgekit/py.typed", "edgekit/core", "targets/rpi4.yaml"],
)
def test_nothing_it_needs_is_left_out_of_the_build_context(path: str) -> None:
    assert ignored_by(path) is None


@pytest.mark.parametrize("path", [".git/HEAD", ".venv/bin/python", "edgekit/__pycache__/a.pyc"])
def test_what_a_checkout_collects_stays_out_of_the_build_context(path: str) -> None:
    assert ignored_by(path) is not None


@pytest.mark.parametrize("path", scripts())
def test_its_scripts_are_executable_and_copied_before_they_run(path: str) -> None:
    assert (CHECKOUT / path).stat().st_mode & 0o111
    words = [" ".join(line) for line in instructions()]
    copied = next(i for i, line in enumerate(words) if line.startswith("COPY scripts/"))
    run = next(i for i, line in enumerate(words) if line.startswith("RUN") and path in line)
    assert copied < run


def test_the_set_up_has_every_file_it_reads_before_it_runs() -> None:
    script = (CHECKOUT / "scripts/setup.sh").read_text()
    first_run = next(i for i, words in enumerate(instructions()) if words[0] == "RUN")
    copied = {path for words in instructions()[:first_run] for path in words if words[0] == "COPY"}
    read = set(re.findall(r"\b(pyproject\.toml|constraints\.txt)\b", script))
    assert read == {"pyproject.toml", "constraints.txt"}
    # The metadata of the editable install reads these two.
    assert read | {"README.md", "LICENSE"} <= copied


def test_the_container_does_not_run_as_root() -> None:
    users = [words[1] for words in instructions() if words[0] == "USER"]
    assert users
    assert users[-1] != "root"


def test_the_entry_point_is_edgekit() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["edgekit"]' in text
