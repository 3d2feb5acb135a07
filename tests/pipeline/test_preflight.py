"""Missing packages and devices are named before any stage runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import DeviceError, InputError
from edgekit.core.target import load_target
from edgekit.core.yaml_file import parse_yaml
from edgekit.devices.emulation.qemu import find_qemu
from edgekit.pipeline.build import BuildRequest, run_build
from edgekit.pipeline.recipe import recipe_from

RECIPE = """
edgekit: 1
model: {architecture: mlp, options: {input_shape: [1, 8, 8], hidden: [16], num_classes: 10}}
data: {name: digits}
preprocess: [{to-float: {scale: 16}}]
stages: [train, export, compile, profile]
"""


def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, **changes: object) -> None:
    from edgekit.core.progress import NullProgress

    monkeypatch.setenv("EDGEKIT_STORE", str(tmp_path / "store"))
    request = BuildRequest(
        recipe=recipe_from(parse_yaml(RECIPE, Path("mine.yaml"))),
        targets=(load_target(target),),
        output=tmp_path / "dist",
        **changes,  # type: ignore[arg-type]
    )
    try:
        run_build(request, NullProgress())
    finally:
        assert not list((tmp_path / "store").glob("??/*")), "a stage ran"


@pytest.mark.parametrize(
    ("package", "extra"),
    [("torch", "torch"), ("onnxscript", "onnx"), ("tvm", "tvm"), ("ziglang", "tvm")],
)
def test_missing_package_is_named_with_its_pip_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == package else find(name, *a)
    )
    message = rf"'{package}' is needed here.*pip install 'edgekit\[{extra}\]'"
    with pytest.raises(InputError, match=message):
        build(tmp_path, monkeypatch, "host")


def test_missing_qemu_is_answered_with_its_apt_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_qemu.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"no qemu-aarch64 on the PATH.*apt-get install"):
        build(tmp_path, monkeypatch, "rpi4")


def test_processor_without_the_targets_features_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "avx512vnni" in load_target("host").cpu.features:
        pytest.skip("this machine has every feature")
    with pytest.raises(DeviceError, match=r"a processor without .*avx512vnni"):
        build(tmp_path, monkeypatch, "x86-64-v4-vnni", runners={"*": "local:"})


def test_output_is_checked_before_the_store_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist").write_bytes(b"")
    with pytest.raises(InputError, match="Choose a folder you may write to"):
        build(tmp_path, monkeypatch, "host")
    assert [path.name for path in tmp_path.iterdir()] == ["dist"]
