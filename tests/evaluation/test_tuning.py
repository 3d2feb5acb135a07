"""Tuning measures candidates of every layer in the network itself and keeps what is faster."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest

from edgekit.compiler.engines.tvm import Tvm
from edgekit.compiler.kernels.convolution.tiles import parse_tile
from edgekit.compiler.plan.tiling import read_tiles
from edgekit.core.errors import InputError
from edgekit.core.progress import NullProgress
from edgekit.core.target import load_target
from edgekit.evaluation.tuning import TuneSettings, Tuning, tune
from tests.compiler import onnx_models

SETTINGS = TuneSettings(num_candidates=2, rounds=1, num_runs=3)


def tuned(model: onnx.ModelProto, folder: Path) -> Tuning:
    path = folder / "model.onnx"
    onnx.save(model, path)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return tune(
        path,
        load_target("host"),
        runner="local:",
        cache_dir=folder / "cache",
        compiler="this one",
        settings=SETTINGS,
        scratch=scratch,
        progress=NullProgress(),
    )


@pytest.mark.slow
def test_a_measured_table_is_what_the_next_build_uses(tmp_path: Path) -> None:
    found = tuned(onnx_models.residual_cnn(), tmp_path)
    assert found.gain >= 1.0
    assert set(found.table.tiles) == {layer.layer for layer in found.layers}
    for layer in found.layers:
        assert layer.cost > 0
        parse_tile(layer.tile)
    # Whatever won, a table that names other tiles than the analytic choice decides the build.
    forced = {
        layer: f"1x1x1 1 outputs {unroll}" for unroll, layer in enumerate(found.table.tiles, 1)
    }
    target = msgspec.structs.replace(load_target("host"), tiles=forced)
    build = Tvm(static_library=False).build(
        tmp_path / "model.onnx", tmp_path / "again", target, progress=NullProgress()
    )
    assert {step.layer: step.tile for step in build.steps if step.layer in forced} == forced


def test_a_model_without_a_choice_is_refused(tmp_path: Path) -> None:
    builder = onnx_models.GraphBuilder()
    relu = builder.op("Relu", "x")
    with pytest.raises(InputError, match="no layer with more than one tile"):
        tuned(builder.model({"x": (1, 4)}, {relu: (1, 4)}), tmp_path)


def test_a_tile_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"tile of layer 'conv' of target 'rpi4'.*edgekit tune"):
        read_tiles({"conv": "nonsense"}, "rpi4")
