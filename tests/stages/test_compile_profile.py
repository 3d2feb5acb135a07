"""compile and profile: engines, golden tensors, parity with a named layer, host against device."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.core.errors import DeviceError, InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.progress import Progress
from edgekit.core.registry import Registry, registry
from edgekit.core.stage import StageContext, StageResult
from edgekit.core.target import Target, load_target
from edgekit.data.source import Data

MakeContext = Callable[..., StageContext]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, digits: Data) -> ModelHandle:
    """An untrained MLP for the digits, exported."""
    folder = tmp_path_factory.mktemp("model")
    for name in ("source", "export"):
        (folder / name).mkdir()
    fields = {"scratch": folder, "cache_dir": folder, "data": digits}
    mlp = registry("architectures").get("mlp")(input_shape=(1, 8, 8), hidden=(16,), num_classes=10)
    source = registry("sources").get("architecture")(architecture="mlp", options=mlp)
    start = source.run(None, StageContext(workdir=folder / "source", **fields))
    export = registry("stages").get("export")()
    result = export.run(start.model, StageContext(workdir=folder / "export", **fields))
    found: ModelHandle = result.model
    return found


def compiled(model: ModelHandle, context: MakeContext, target: str, *engines: str) -> StageResult:
    stage = registry("stages").get("compile")()
    chosen = msgspec.structs.replace(load_target(target), engines=engines)
    ctx = context(folder=f"compile-{target}", target=chosen)
    stage.requires(model, ctx)
    result: StageResult = stage.run(model, ctx)
    stage.ensures(model, result, ctx)
    return result


def profiled(model: ModelHandle, context: MakeContext, target: str, runner: str) -> StageResult:
    stage = registry("stages").get("profile")(num_runs=5, warmup_runs=1, num_images=20)
    ctx = context(folder=f"profile-{target}", target=load_target(target), runner=runner)
    stage.requires(model, ctx)
    result: StageResult = stage.run(model, ctx)
    stage.ensures(model, result, ctx)
    return result


def test_host_build_has_engines_golden_and_preprocessing(
    model: ModelHandle, context: MakeContext
) -> None:
    result = compiled(model, context, "host", "tvm", "onnxruntime")
    files = {path.relative_to(result.model.path).as_posix() for path in _files(result.model.path)}
    assert {
        "model.onnx",
        "golden/golden.json",
        "preprocess/preprocess.json",
        "engines/tvm/libmodel.so",
        "engines/tvm/libmodel.a",
        "engines/tvm/model.h",
        "engines/onnxruntime/model.onnx",
    } <= files
    assert not any(name.startswith("host/") for name in files)
    assert [row["engine"] for row in result.details["engines"]] == ["tvm", "onnxruntime"]


def test_host_profile_measures_every_engine(model: ModelHandle, context: MakeContext) -> None:
    built = compiled(model, context, "host", "tvm", "onnxruntime").model
    result = profiled(built, context, "host", "local:")
    assert result.details["device"]["kind"] == "local"
    for engine in result.details["engines"]:
        assert engine["latency"]["num_runs"] == 5
        assert engine["peak_rss_mib"] > 0
        assert engine["parity"]["top1_agreement"] == 1.0
        assert engine["num_images"] == 20
        assert engine["instructions_m"] is None
    assert not result.details["mismatches"]
    assert (result.model.path / "model.onnx").is_file()


def test_foreign_target_is_built_for_the_host_too(model: ModelHandle, context: MakeContext) -> None:
    built = compiled(model, context, "android-arm64", "tvm").model
    assert (built.path / "host" / "tvm" / "libmodel.so").is_file()


def test_target_without_a_runner_is_not_measured_and_says_so(
    model: ModelHandle, context: MakeContext
) -> None:
    built = compiled(model, context, "android-arm64", "tvm").model
    result = profiled(built, context, "android-arm64", "none")
    assert result.details["device"] is None
    assert result.details["engines"][0]["latency"] is None
    assert "compile only" in result.warnings[0]


def test_cpu_without_the_targets_features_is_refused(
    model: ModelHandle, context: MakeContext
) -> None:
    if "avx512vnni" in load_target("host").cpu.features:
        pytest.skip("this machine has every feature")
    built = compiled(model, context, "x86-64-v4-vnni", "tvm").model
    with pytest.raises(DeviceError, match=r"processor without .*avx512vnni") as error:
        profiled(built, context, "x86-64-v4-vnni", "local:")
    assert error.value.exit_code == 4


@pytest.mark.emulated
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="needs qemu-user")
def test_emulated_board_counts_instructions_and_shows_no_times(
    model: ModelHandle, context: MakeContext
) -> None:
    from edgekit.core.places import cache_folder

    built = compiled(model, context, "rpi4", "tvm", "onnxruntime").model

    def cached(**changes: object) -> StageContext:
        return context(**changes, cache_dir=cache_folder())

    result = profiled(built, cached, "rpi4", "emulated:rpi4")
    assert result.details["device"]["kind"] == "emulated"
    for engine in result.details["engines"]:
        assert engine["instructions_m"] > 0
        assert engine["latency"] is None
        assert engine["peak_rss_mib"] is None
        assert engine["first_run_ms"] is None
    assert not result.details["mismatches"]


def test_engine_with_a_wrong_layer_is_named(
    model: ModelHandle, context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that doubles one bias: the answer names the layer with that bias."""
    graph = onnx.load(model.path / "model.onnx").graph
    bias = next(t.name for t in graph.initializer if list(t.dims) == [16])
    real = registry("engines").get("onnxruntime")
    found = Registry.get

    class Wrong(real):  # type: ignore[misc, valid-type]
        def build(
            self, onnx_path: Path, out: Path, target: Target, *, progress: Progress
        ) -> object:
            broken = onnx.load(onnx_path)
            tensor = next(t for t in broken.graph.initializer if t.name == bias)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1.0, bias))
            path = onnx_path.with_name("broken.onnx")
            onnx.save(broken, path)
            return super().build(path, out, target, progress=progress)

    monkeypatch.setattr(
        Registry,
        "get",
        lambda self, name: Wrong if self.kind == "engines" else found(self, name),
    )
    built = compiled(model, context, "host", "onnxruntime").model
    layer = next(node.name for node in graph.node if bias in node.input)
    with pytest.raises(StageError, match=rf"first layer that differs is '{layer}'"):
        profiled(built, context, "host", "local:")


def test_a_target_with_an_unknown_engine_is_refused_at_plan_time() -> None:
    target = msgspec.structs.replace(load_target("host"), engines=("tvmm",))
    with pytest.raises(InputError, match=r"unknown engine 'tvmm'.*'tvm'"):
        registry("stages").get("compile")().check(target, has_data=False)


def test_engines_take_their_own_options_and_those_of_the_stage() -> None:
    tvm, ort = (registry("engines").get(name) for name in ("tvm", "onnxruntime"))
    stage = registry("stages").get("compile")(
        engines=(tvm(memory_limit_mib=2048), ort()), winograd="off"
    )
    chosen = stage.with_budget(3.0).chosen(None)
    assert list(chosen) == ["tvm", "onnxruntime"]
    assert chosen["tvm"].memory_limit_mib == 2048
    assert chosen["tvm"].winograd == "off"
    assert chosen["tvm"].size_limit_mib == 3.0


def test_a_size_limit_of_the_stage_goes_before_the_budget() -> None:
    stage = registry("stages").get("compile")(size_limit_mib=1.0)
    assert stage.with_budget(3.0).size_limit_mib == 1.0


def test_profile_refuses_a_model_without_engines(tmp_path: Path, context: MakeContext) -> None:
    handle = ModelHandle(ModelKind.COMPILED, tmp_path, (), ())
    with pytest.raises(StageError, match="has no engines"):
        profiled(handle, context, "host", "local:")


def test_golden_inputs_are_the_first_test_samples(model: ModelHandle, context: MakeContext) -> None:
    from edgekit.evaluation.golden import read_golden

    ctx = context(folder="compare")
    built = compiled(model, context, "host", "onnxruntime").model
    golden = read_golden(built.path / "golden")
    assert ctx.data is not None
    assert np.array_equal(golden.inputs["image"], ctx.data.test.inputs["image"][:8])


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
