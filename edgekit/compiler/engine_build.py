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


class StepFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Say what one step of a compiled library is; the order is that of its `step_names`.

    Args:
        name: As in `step_names`.
        nodes: ONNX nodes it stands for; empty for steps that only move data.
        kind: Kernel, such as `convolution`, `winograd-f4` or `tvm`.
        dtype: `float32`, or `int8` for integer operators.
        macs: Multiply-adds of the operator as written, 0 where it has none.
        layer: Key of the layer in a table of measured tiles; empty where there is no choice.
        tile: The tile it was built with.
    """

    name: str
    nodes: tuple[str, ...] = ()
    kind: str = ""
    dtype: str = ""
    macs: int = 0
    layer: str = ""
    tile: str = ""


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
        steps: What each step is, where the engine runs in steps.
        notes: What a reader of the report should know of it, a sentence each.
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
    steps: tuple[StepFacts, ...] = ()
    notes: tuple[str, ...] = ()
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
