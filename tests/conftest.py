"""What every test runs under: one thread per library, no clock in property tests, golden files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from edgekit.core.registry import registry
from edgekit.core.stage import StageContext
from edgekit.data.source import Data
from edgekit.data.splits import SplitSpec

# Read once, when numpy or torch is first loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background lets every process ignore Ctrl-C; the tests that
# send it need what a user's processes have.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline would fail a test because the machine is busy.
settings.register_profile("edgekit", deadline=None)
settings.load_profile("edgekit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write what the tests find into their golden files; read the difference with git",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a function that compares a text with `golden/NAME` beside the test."""

    def check(name: str, text: str) -> None:
        path = Path(request.path).parent / "golden" / name
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path.name} is missing: run pytest --rewrite-golden"
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def digits() -> Data:
    """A few of scikit-learn's digits, grey levels 0 to 1, [N, 1, 8, 8]."""
    return Data(
        dataset=registry("datasets").get("digits")(),
        split=SplitSpec(train=1000, validation=200, calibration=50, test=300),
        preprocess=(registry("preprocess").get("to-float")(scale=16.0),),
    )


@pytest.fixture
def context(tmp_path: Path, digits: Data) -> Callable[..., StageContext]:
    """Make a stage context with the digits as data; arguments replace fields."""

    def make(**changes: object) -> StageContext:
        workdir = tmp_path / str(changes.pop("folder", "payload"))
        workdir.mkdir()
        fields = {
            "workdir": workdir,
            "scratch": tmp_path,
            "cache_dir": tmp_path,
            "data": digits,
            "metric": registry("metrics").get("top-1")(),
        }
        return StageContext(**{**fields, **changes})

    return make
