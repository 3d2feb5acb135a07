"""Run an ONNX model in this process by onnxruntime: the reference every engine is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekit.core.errors import InputError, require_module

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime as ort

Optimization = Literal["off", "basic", "all"]
_ERRORS_ONLY = 3


def open_session(
    model: Path | onnx.ModelProto,
    *,
    num_threads: int = 1,
    optimization: Optimization = "all",
    save_optimized: Path | None = None,
) -> ort.InferenceSession:
    """Open an `onnxruntime.InferenceSession` that logs nothing and runs on the CPU.

    Args:
        model: A checked model or its file.
        num_threads: Threads inside an operator.
        optimization: `off` runs the graph as written, node by node.
        save_optimized: Where to write the graph onnxruntime really runs.

    Raises:
        InputError: onnxruntime is not installed, or refuses the model.
    """
    runtime = require_module("onnxruntime", "onnx")
    levels = {
        "off": runtime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "all": runtime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = levels[optimization]
    # Without VNNI, uint8 x int8 products are added up in 16 bits, which saturate; this makes
    # onnxruntime use uint8 weights there, where sums are exact, and changes nothing elsewhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if save_optimized is not None:
        options.optimized_model_filepath = str(save_optimized)
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    # onnxruntime raises a dozen classes of its own that share no base but Exception.
    except Exception as error:
        raise InputError("opening the model with onnxruntime", found=_first_line(error)) from error


def run_session(
    session: ort.InferenceSession,
    inputs: Mapping[str, np.ndarray],
    *,
    batch_size: int = 64,
    outputs: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Run all items, `batch_size` of them at a time.

    Args:
        session: From `open_session`.
        inputs: Arrays by input name, items along axis 0.
        batch_size: Items per call; 1 when the model's batch is fixed to 1.
        outputs: Names of the outputs wanted; None for all.

    Returns:
        Arrays by output name, items along axis 0.

    Raises:
        InputError: An input is missing, or onnxruntime refuses its shape or type.
    """
    import numpy as np

    names = [item.name for item in session.get_outputs()] if outputs is None else list(outputs)
    wanted = {item.name: item for item in session.get_inputs()}
    missing = sorted(set(wanted) - set(inputs))
    if missing:
        raise InputError(
            "running the model", found=f"no input {', '.join(missing)}", expected=", ".join(wanted)
        )
    step = _fixed_batch(wanted.values()) or batch_size
    parts: list[list[np.ndarray]] = []
    for start, stop in _slices(len(next(iter(inputs.values()))), step):
        feed = {name: np.ascontiguousarray(inputs[name][start:stop]) for name in wanted}
        try:
            parts.append(session.run(names, feed))
        except Exception as error:
            raise InputError("running the model", found=_first_line(error)) from error
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def _fixed_batch(inputs: Iterable[ort.NodeArg]) -> int | None:
    sizes = [item.shape[0] for item in inputs if item.shape]
    return next((size for size in sizes if isinstance(size, int)), None)


def _slices(total: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, total)) for start in range(0, total, step))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
