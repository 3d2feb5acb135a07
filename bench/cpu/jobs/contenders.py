"""Every engine behind one face: opened for a net and a number of threads, then run again and again.

Inputs and outputs are bound beforehand, so that a run costs what the engine costs and not what
Python's wrapper around it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENGINES = ("edgekit", "edgekit-direct", "onnxruntime", "onnxruntime-exact", "openvino")
"""`edgekit-direct` is compiled without Winograd. `onnxruntime` has the options a user gets: on x86
without VNNI its int8 kernels then add pairs of products in 16 bits, which saturate, so that results
are wrong for some inputs; `onnxruntime-exact` is told not to (`session.x64quantprecision`)."""
_INPUT = "image"
_ERRORS_ONLY = 3


class Opened(NamedTuple):
    """Hold an engine that is ready: `run` runs once, `output` returns the last run's result."""

    run: Callable[[], object]
    output: Callable[[], NDArray[np.float32]]


def open_contender(
    engine: str, files: Mapping[str, Path], image: NDArray[np.float32], *, num_threads: int
) -> Opened:
    """Open an engine for one image.

    Args:
        engine: One of `ENGINES`.
        files: `onnx`, and a library under each name of edgekit.
        image: float32 (1, C, H, W).
        num_threads: Threads inside an operator.
    """
    if engine.startswith("edgekit"):
        return _edgekit(files[engine], image, num_threads)
    if engine == "openvino":
        return _openvino(files["onnx"], image, num_threads)
    return _onnxruntime(files["onnx"], image, num_threads, is_exact=engine.endswith("-exact"))


def _edgekit(library: Path, image: NDArray[np.float32], num_threads: int) -> Opened:
    from edgekit.devices.library import CompiledLibrary

    model = CompiledLibrary(library)
    found = model.set_threads(num_threads)
    assert found == num_threads, f"{library} runs with {found} threads, not {num_threads}"
    model.load({_INPUT: image})
    return Opened(model.run, lambda: next(iter(model.results().values())))


def _onnxruntime(
    path: Path, image: NDArray[np.float32], num_threads: int, *, is_exact: bool
) -> Opened:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = _ERRORS_ONLY
    if is_exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input(_INPUT, ort.OrtValue.ortvalue_from_numpy(image))
    binding.bind_output(session.get_outputs()[0].name)
    return Opened(
        lambda: session.run_with_iobinding(binding), lambda: binding.copy_outputs_to_cpu()[0]
    )


def _openvino(path: Path, image: NDArray[np.float32], num_threads: int) -> Opened:
    import openvino as ov

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": num_threads}
    request = ov.Core().compile_model(str(path), "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(image))

    def run() -> None:
        request.start_async()
        request.wait()

    return Opened(run, lambda: request.get_output_tensor().data.copy())
