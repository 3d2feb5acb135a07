"""Compiled payloads and facts of a bundle, as small as they can be."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.model import TensorSpec
from edgekit.core.report import BuildReport
from edgekit.pipeline.bundle import BundleFacts, BundlePaths, write_bundle
from edgekit.pipeline.manifest import Lineage
from tests.pipeline import sample_reports

FILES = {
    "model.onnx": b"onnx model",
    "golden/input.bin": bytes(64),
    "golden/logits.bin": bytes(range(40)),
    "engines/onnxruntime/engine.json": b"{}",
    "engines/onnxruntime/model.onnx": b"onnx model",
    "engines/tvm/engine.json": b'{"library": "libmodel.so"}',
    "engines/tvm/ek_model.h": b"/* abi */",
    "engines/tvm/model.h": b"/* sizes */",
    "engines/tvm/example_main.c": b"int main(void) { return 0; }",
    "engines/tvm/libmodel.so": b"\x7fELF" + bytes(700),
    "engines/tvm/model": b"\x7fELF",
}
EXECUTABLE = "engines/tvm/model"


def payload(folder: Path) -> Path:
    """Write a compiled payload into `folder`."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / EXECUTABLE).chmod(0o755)
    return folder


def lineage(stage: str, payload: str = "1", **fields: object) -> Lineage:
    """One stage of a lineage whose key follows from its fields."""
    key = "".join(f"{name}{value}" for name, value in fields.items())
    return Lineage(stage=stage, key=f"{stage}{key}" * 4, payload=payload * 64, fields=fields)


def facts(*stages: Lineage, **changes: object) -> BundleFacts:
    """What a manifest says."""
    found = BundleFacts(
        recipe="quickstart",
        recipe_options={"model": {"onnx": "net.onnx"}, "seed": 0},
        target={"name": "rpi4", "engines": ["tvm", "onnxruntime"]},
        preprocess=[{"to_float": {"scale": 16.0}}],
        labels=tuple("0123456789"),
        inputs=(TensorSpec("image", "float32", (None, 1, 8, 8)),),
        outputs=(TensorSpec("logits", "float32", (None, 10)),),
        metric="top-1",
        lineage=stages or (lineage("train", epochs=6), lineage("export"), lineage("compile")),
        tools={"torch": "2.13.0"},
        edgekit_version="0.1.0",
    )
    return msgspec.structs.replace(found, **changes)


def bundle(
    tmp_path: Path,
    name: str = "dist",
    *,
    report: BuildReport | None = None,
    about: BundleFacts | None = None,
) -> BundlePaths:
    """Write a bundle below `tmp_path/name`."""
    source = payload(tmp_path / f"{name}-payload")
    return write_bundle(
        report or sample_reports.emulated(), source, about or facts(), tmp_path / name
    )
