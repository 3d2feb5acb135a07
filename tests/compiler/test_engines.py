from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edgekit.compiler.engine_build import read_engine_build
from edgekit.core.errors import InputError
from edgekit.core.progress import NullProgress
from edgekit.core.registry import registry
from edgekit.core.target import Cpu, Os, Target
from tests.compiler import onnx_models

TARGET = Target(name="t", cpu=Cpu(isa="x86_64", core="x86-64-v2"), os=Os(triple="x86_64-linux-gnu"))
NAMES = registry("engines").names()


def int8_model() -> onnx.ModelProto:
    return onnx_models.quantized(onnx_models.residual_cnn(), (1, 1, 14, 14))


def test_both_engines_are_registered() -> None:
    assert set(NAMES) >= {"tvm", "onnxruntime"}


@pytest.mark.parametrize("name", NAMES)
def test_engine_describes_what_it_wrote(name: str, tmp_path: Path) -> None:
    onnx.save(int8_model(), tmp_path / "model.onnx")
    out = tmp_path / "out"
    engine = registry("engines").get(name)()
    build = engine.build(tmp_path / "model.onnx", out, TARGET, progress=NullProgress())
    assert read_engine_build(out) == build
    assert build.engine == name
    assert build.library in build.files
    assert {path.name for path in out.iterdir()} == {*build.files, "engine.json"}
    assert [spec.shape for spec in build.inputs] == [(1, 1, 14, 14)]
    assert [spec.shape for spec in build.outputs] == [(1, 10)]
    assert build.weights_bytes > 0
    assert build.integer_ops + build.float_ops == 9
    # Nobody wins a race with int8 by computing in float.
    assert (build.disqualified is None) == (build.integer_ops >= 8)


@pytest.mark.parametrize("name", NAMES)
def test_engine_refuses_what_is_no_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match="expected an ONNX model"):
        registry("engines").get(name)().build(
            tmp_path / "model.onnx", tmp_path / "out", TARGET, progress=NullProgress()
        )


def test_onnxruntime_says_where_it_counted(tmp_path: Path) -> None:
    onnx.save(onnx_models.mlp(), tmp_path / "model.onnx")
    engine = registry("engines").get("onnxruntime")()
    build = engine.build(tmp_path / "model.onnx", tmp_path / "out", TARGET, progress=NullProgress())
    assert build.details["operators_inspected_on"]
    assert (build.integer_ops, build.float_ops) == (0, 2)
    assert build.disqualified is None


def test_engines_load_no_framework_before_they_build() -> None:
    script = (
        "import sys; from edgekit.core.registry import registry\n"
        "for name in registry('engines').names(): registry('engines').get(name)()\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'tvm', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True, timeout=60)
