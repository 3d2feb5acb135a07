"""Latency between stages is a hint: one figure for models in training forms, none when compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.stage import StageContext
from edgekit.evaluation.latency import NAME, host_latency


def context(folder: Path) -> StageContext:
    return StageContext(workdir=folder, scratch=folder, cache_dir=folder)


def test_onnx_model_has_a_positive_median(
    tmp_path: Path, onnx_model: Callable[..., ModelHandle]
) -> None:
    (metric,) = host_latency(onnx_model(), context(tmp_path))
    assert (metric.name, metric.unit, metric.better) == (NAME, "ms", "lower")
    assert metric.value > 0


def test_compiled_model_is_left_to_the_device(
    tmp_path: Path, onnx_model: Callable[..., ModelHandle]
) -> None:
    compiled = msgspec.structs.replace(onnx_model(), kind=ModelKind.COMPILED)
    assert host_latency(compiled, context(tmp_path)) == ()
