from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.devices.library import CompiledLibrary
from tests.devices.arrays import items


@pytest.fixture
def path(host_library: Path) -> Path:
    return host_library / "libmodel.so"


def test_it_computes_what_the_device_executable_computes(path: Path) -> None:
    library = CompiledLibrary(path)
    inputs = items(1)
    outputs = library.run_one(inputs)
    np.testing.assert_array_equal(outputs["y"], 2 * inputs["x"] + inputs["b"])
    assert [tensor.name for tensor in library.inputs] == ["x", "b"]
    assert library.outputs[0].shape == (1, 4)


def test_outputs_of_one_run_outlive_the_next(path: Path) -> None:
    library = CompiledLibrary(path)
    first = library.run_one(items(1))["y"].copy()
    kept = library.run_one(items(1))["y"]
    library.run_one(items(5))
    np.testing.assert_array_equal(kept, first)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 5), np.float32), np.zeros((1, 4)), np.zeros((2, 4), np.float32)]
)
def test_an_input_that_does_not_fit_is_refused(path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"input 'x'.*expected float32"):
        CompiledLibrary(path).run_one({**items(1), "x": wrong})


def test_a_failing_run_is_raised(path: Path) -> None:
    with pytest.raises(RuntimeError, match="returned 7"):
        CompiledLibrary(path).run_one(items(-4))


def test_threads_in_force_are_the_library_s_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CompiledLibrary(path).set_threads(8) == 2
    monkeypatch.setenv("EK_TEST_MODEL", "no-threads")
    # The description is made once per process; a copy is another library.
    assert CompiledLibrary(_copy(path, path.parent / "other.so")).set_threads(8) == 1


@pytest.mark.parametrize(
    ("variant", "said"), [("abi", "ABI version 99"), ("nothing", "no description")]
)
def test_a_library_that_describes_itself_falsely_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, said: str
) -> None:
    monkeypatch.setenv("EK_TEST_MODEL", variant)
    with pytest.raises(InputError, match=said):
        CompiledLibrary(_copy(path, tmp_path / "libmodel.so"))


def test_a_file_that_does_not_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "libmodel.so").write_bytes(b"no library")
    with pytest.raises(InputError, match="Was it built for another machine"):
        CompiledLibrary(tmp_path / "libmodel.so")


def _copy(path: Path, place: Path) -> Path:
    place.write_bytes(path.read_bytes())
    return place
