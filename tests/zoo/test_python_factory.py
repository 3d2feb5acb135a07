from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from edgekit.core.errors import InputError
from edgekit.zoo.python_factory import build_from_factory, code_digest

CODE = """
from torch import nn
def make(width=3):
    return nn.Linear(2, width)
def number():
    return 3
def fails():
    raise KeyError("size")
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "their_models"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(CODE)
    (folder / "broken.py").write_text("1/0")
    monkeypatch.chdir(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("their_models")]:
        del sys.modules[name]


def test_a_function_of_the_current_folder_builds_the_model() -> None:
    before = list(sys.path)
    module = build_from_factory("their_models.nets:make", {"width": 5}, allow_code=True)
    assert isinstance(module, nn.Linear)
    assert module.out_features == 5
    assert sys.path == before


def test_code_is_not_run_unasked() -> None:
    with pytest.raises(InputError, match=r"not run unasked.*--allow-code"):
        build_from_factory("their_models.nets:make", {}, allow_code=False)
    assert "their_models.nets" not in sys.modules


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("their_models.nets", "expected package.module:function"),
        ("their_models.nets:maek", r"has no function 'maek'.*'make'"),
        ("their_models.none:make", r"importing 'their_models.none'.*Run edgekit in the folder"),
        ("their_models.broken:make", "ZeroDivisionError"),
        ("their_models.nets:fails", "found KeyError: 'size'"),
        ("their_models.nets:number", r"found int, expected a torch.nn.Module"),
    ],
)
def test_what_can_go_wrong_is_told(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_from_factory(reference, {}, allow_code=True)


def test_wrong_options_are_told() -> None:
    with pytest.raises(InputError, match=r"unexpected keyword argument 'depth'"):
        build_from_factory("their_models.nets:make", {"depth": 5}, allow_code=True)


def test_the_digest_follows_the_source_and_imports_nothing(package: Path) -> None:
    before = code_digest("their_models.nets:make")
    assert code_digest("their_models.nets:number") == before
    (package / "nets.py").write_text(CODE + "# more\n")
    assert code_digest("their_models.nets:make") != before
    assert "their_models" not in sys.modules


def test_the_digest_of_a_missing_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"no Python module 'their_models.none'"):
        code_digest("their_models.none:make")
