"""The commands that README and CI name exist and do what they say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
README = CHECKOUT / "README.md"


def steps(target: str) -> str:
    return subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?m)(?:^|`)make ([a-z]+)", README.read_text())))
)
def test_every_make_command_in_the_readme_exists(target: str) -> None:
    assert steps(target)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "format", "wheel"])
def test_what_needs_the_environment_sets_it_up_first(target: str) -> None:
    assert steps(target).startswith("scripts/setup.sh\n")


def test_a_test_run_checks_style_spelling_types_contracts_and_behaviour() -> None:
    tools = re.findall(r"^\.venv/bin/(.+)$", steps("test"), flags=re.MULTILINE)
    expected = ["ruff check .", "ruff format --check .", "codespell", "mypy", "lint-imports"]
    assert tools == [*expected, "pytest"]


def test_the_ci_runs_the_tests_of_the_makefile() -> None:
    script = CHECKOUT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert re.search(r"^exec make .*\btest\b", script.read_text(), flags=re.MULTILINE)
