from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.core.errors import InputError
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.registry import registry
from edgekit.zoo.checkpoint import ArchitectureRef, load, open_folder
from edgekit.zoo.probe import probe_inputs
from edgekit.zoo.surgery import KeepChannels

NAMES = registry("architectures").names()
CUTS = {
    "resnet8": (
        KeepChannels(module="block1.body.first.conv", kind="out", keep=(0, 2, 3)),
        KeepChannels(module="block1.body.first.norm", kind="out", keep=(0, 2, 3)),
        KeepChannels(module="block1.body.second.conv", kind="in", keep=(0, 2, 3)),
    ),
    "mobilenet-tiny": (
        KeepChannels(module="block1.expand.conv", kind="out", keep=(1, 4)),
        KeepChannels(module="block1.expand.norm", kind="out", keep=(1, 4)),
        KeepChannels(module="block1.depthwise.conv", kind="out", keep=(1, 4)),
        KeepChannels(module="block1.depthwise.norm", kind="out", keep=(1, 4)),
        KeepChannels(module="block1.project.conv", kind="in", keep=(1, 4)),
    ),
    "mlp": (
        KeepChannels(module="1", kind="out", keep=(0, 5)),
        KeepChannels(module="3", kind="in", keep=(0, 5)),
    ),
}
READER = """
import sys, json, torch
from pathlib import Path
from edgekit.zoo.checkpoint import load, open_folder
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    module = load(open_folder(Path(folder))).module
    with torch.no_grad():
        result = module(torch.load(Path(folder) / "input.pt", weights_only=True))
    print(json.dumps(result.numpy().tobytes().hex()))
"""


def test_a_new_process_computes_the_same_bits(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    folders, expected = [], []
    for name in NAMES:
        module, handle = saved(name, CUTS.get(name, ()))
        probe = probe_inputs(handle.inputs)[0]
        torch.save(probe, handle.path / "input.pt")
        with torch.no_grad():
            expected.append(module(probe).numpy().tobytes().hex())
        folders.append(str(handle.path))
    command = [sys.executable, "-c", READER, *folders]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize("name", NAMES)
def test_saving_twice_gives_the_same_bytes(
    name: str, saved: Callable[..., tuple[nn.Module, ModelHandle]]
) -> None:
    _, handle = saved(name)
    first = {path.name: path.read_bytes() for path in handle.path.iterdir()}
    _, handle = saved(name)
    assert {path.name: path.read_bytes() for path in handle.path.iterdir()} == first


def test_the_folder_alone_gives_the_handle_back(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    _, handle = saved("mlp")
    assert open_folder(handle.path) == handle


def test_loaded_models_carry_what_saves_them_again(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    _, handle = saved("mlp", CUTS["mlp"])
    loaded = load(handle)
    assert loaded.surgery == CUTS["mlp"]
    assert loaded.architecture.architecture == "mlp"
    assert not loaded.module.training


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    handle = ModelHandle(ModelKind.ONNX, tmp_path, (), ())
    with pytest.raises(InputError, match=r"found onnx, expected a torch model"):
        load(handle)


def test_a_missing_file_is_named(saved: Callable[..., tuple[nn.Module, ModelHandle]]) -> None:
    _, handle = saved("mlp")
    (handle.path / "surgery.json").unlink()
    with pytest.raises(InputError, match=r"surgery.json does not exist"):
        load(handle)


def test_an_edit_of_a_newer_version_is_refused(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    _, handle = saved("mlp", CUTS["mlp"])
    path = handle.path / "surgery.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match=r"surgery.json is damaged or of another version"):
        load(handle)


def test_weights_of_another_width_are_refused_by_name(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    _, handle = saved("mlp")
    path = handle.path / "architecture.json"
    path.write_text(path.read_text().replace("8\n    ]", "16\n    ]", 1))
    with pytest.raises(InputError, match=r"1.weight is \[8, 64\] instead of \[16, 64\]"):
        load(handle)


def test_two_origins_are_refused() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        ArchitectureRef(schema=1, architecture="mlp", python="a:b")


def test_code_is_not_run_unasked(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    _, handle = saved("mlp")
    (handle.path / "architecture.json").write_text(json.dumps({"schema": 1, "python": "os:getcwd"}))
    with pytest.raises(InputError, match=r"'os:getcwd', which is not run unasked.*--allow-code"):
        load(handle)
