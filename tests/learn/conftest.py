from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgekit.core.registry import registry
from edgekit.core.stage import StageContext
from edgekit.data.source import Data
from edgekit.data.splits import SplitSpec


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
