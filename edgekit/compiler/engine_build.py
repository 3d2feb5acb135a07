"""What an engine hands over: files of one compiled model and the facts about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from edgekit.core.files import read_json, write_json
from edgekit.core.model import TensorSpec

if TYPE_CHECKING:
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target


class EngineBuild(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a compiled model; written beside its files as `engine.json`.

    Args:
        engine: Registry name of the engine.
        files: Files it wrote, relative to its folder, without `engine.json`.
        library: The file a runner loads: a shared library, a static one where the system loads
            none, or an ONNX model.
        inputs: Inputs with a batch of 1.
        outputs: Outputs with a batch of 1.
        integer_ops: Compute operators that take and give integers.
        float_ops: Compute operators that take floats.
        num_kernels: Distinct kernels; 0 where the engine brings its own.
        workspace_bytes: Memory one run needs beside inputs, outputs and weights.
        weights_bytes: Constants inside the library.
        disqualified: Why this engine may not win a race, None when it may.
        details: Further facts for reports.
    """

    engine: str
    files: tuple[str, ...]
    library: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    integer_ops: int
    float_ops: int
    num_kernels: int = 0
    workspace_bytes: int = 0
    weights_bytes: int = 0
    disqualified: str | None = None
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Engine(Protocol):
    """Turn an ONNX model into files that run on a target; implementers are option structs."""

    def build(
        self, onnx_path: Path, out: Path, target: Target, *, progress: Progress
    ) -> EngineBuild:
        """Fill `out`, an empty folder, and describe it in `out/engine.json`."""
        ...


def write_engine_build(build: EngineBuild, folder: Path) -> None:
    """Write `engine.json`."""
    write_json(folder / "engine.json", build)


def read_engine_build(folder: Path) -> EngineBuild:
    """Read what `write_engine_build` wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    return read_json(folder / "engine.json", EngineBuild)
