"""What every runner promises, checked for each file in the folder."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgekit.core.errors import EdgekitError
from edgekit.core.options import Options
from edgekit.core.registry import registry
from edgekit.core.target import load_target
from edgekit.devices.identity import device_identity, split_uri
from edgekit.devices.session import Runner, describe_device

RUNNERS = registry("runners").names()
EXAMPLES = {"local": ("local:", "host"), "emulated": ("emulated:rpi4", "rpi4")}


def test_every_runner_has_an_example_here() -> None:
    assert set(RUNNERS) == set(EXAMPLES)


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runner_is_options_with_the_contract_s_methods(name: str) -> None:
    entry = registry("runners").get(name)
    assert entry().timeout_s > 0
    assert issubclass(entry, Options)
    assert registry("runners").help(name)
    for method in ("identity", "describe", "open", "examine"):
        wanted = inspect.signature(getattr(Runner, method))
        found = inspect.signature(getattr(entry, method))
        assert list(found.parameters) == list(wanted.parameters)


@pytest.mark.parametrize("name", RUNNERS)
def test_a_device_is_identified_without_being_touched(name: str, tmp_path: Path) -> None:
    uri, target = EXAMPLES[name]
    identity = device_identity(uri, load_target(target), tmp_path)
    assert msgspec.json.encode(identity) == msgspec.json.encode(
        device_identity(uri, load_target(target), tmp_path)
    )
    info = describe_device(uri, load_target(target), tmp_path)
    assert identity["device"] == {"fingerprint": info.fingerprint}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runner_s_module_loads_no_framework(name: str) -> None:
    code = (
        f"import sys, edgekit.devices.runners.{name.replace('-', '_')};"
        "print(sorted({'numpy', 'onnx', 'onnxruntime', 'torch', 'tvm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_target_without_a_runner_has_no_identity(tmp_path: Path) -> None:
    assert device_identity("none", load_target("android-arm64"), tmp_path) == {}


def test_a_uri_splits_at_its_first_colon() -> None:
    assert split_uri("emulated:rpi4") == ("emulated", "rpi4")
    assert split_uri("local") == ("local", "")
    with pytest.raises(EdgekitError, match="a URI such as local: or emulated:rpi4"):
        split_uri("nonsense")
