"""`python -m bench.cpu.jobs.outputs JOB`: how right the results are.

int8: equal bits with the numpy reference, and the distance from ONNX Runtime in steps of the
output, beside ONNX Runtime's distance from itself with and without its graph optimizations, which
is the yardstick. fp32: the distance from ONNX Runtime as a share of the output's range.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bench.cpu.jobs.child import reply
from bench.nets.catalog import net_images

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Outputs = NDArray[np.float32]

_INPUT = "image"
SEED = 99
"""Of the images that are compared."""
NUM_REFERENCE_IMAGES = 2
"""Images of the comparison with the numpy reference, which is slow."""


class OutputsJob(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to compare.

    Args:
        model: Name of the net.
        precision: fp32 or int8.
        onnx: The net's file.
        float_onnx: The fp32 net's file.
        library: edgekit's library of it.
        num_images: Images to run.
    """

    model: str
    precision: str
    onnx: str
    float_onnx: str
    library: str
    num_images: int = 16


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the comparisons; those of int8 are None for fp32.

    Args:
        difference_of_range: Largest difference from ONNX Runtime over its range of outputs.
        top1_agreement: Share of images with the same best class as ONNX Runtime, exact for int8.
        equals_reference: Whether all bits equal the numpy reference's.
        steps: Largest difference from ONNX Runtime (exact), in output steps.
        own_steps: Largest difference of ONNX Runtime (exact) from itself, unoptimized.
        default_steps: Largest difference of ONNX Runtime with default options from the exact one.
        snr_db: Against the fp32 net.
        onnxruntime_snr_db: Of ONNX Runtime (exact) against the fp32 net.
        default_snr_db: Of ONNX Runtime with default options against the fp32 net.
        float_top1_agreement: With the fp32 net.
        onnxruntime_float_top1_agreement: Of ONNX Runtime (exact) with the fp32 net.
    """

    difference_of_range: float
    top1_agreement: float
    equals_reference: bool | None = None
    steps: float | None = None
    own_steps: float | None = None
    default_steps: float | None = None
    snr_db: float | None = None
    onnxruntime_snr_db: float | None = None
    default_snr_db: float | None = None
    float_top1_agreement: float | None = None
    onnxruntime_float_top1_agreement: float | None = None


def main(arguments: list[str]) -> None:
    """Compare what a job given as JSON names."""
    from edgekit.arithmetic.similarity import max_abs, snr_db, top1_agreement

    job = msgspec.json.decode(arguments[0].encode(), type=OutputsJob)
    images = net_images(job.model, job.num_images, SEED)
    ours, exact = _edgekit(Path(job.library), images), _onnxruntime(Path(job.onnx), images)
    compared = Compared(
        difference_of_range=max_abs(exact, ours) / float(np.ptp(exact)),
        top1_agreement=top1_agreement(exact, ours),
    )
    if job.precision == "int8":
        step = output_step(Path(job.onnx))
        plain = _onnxruntime(Path(job.onnx), images, optimization="off")
        default = _onnxruntime(Path(job.onnx), images, is_exact=False)
        real = _onnxruntime(Path(job.float_onnx), images)
        few = slice(NUM_REFERENCE_IMAGES)
        compared = msgspec.structs.replace(
            compared,
            equals_reference=bool(
                np.array_equal(reference_outputs(Path(job.onnx), images[few]), ours[few])
            ),
            steps=round(max_abs(exact, ours) / step, 2),
            own_steps=round(max_abs(exact, plain) / step, 2),
            default_steps=round(max_abs(exact, default) / step, 2),
            snr_db=round(snr_db(real, ours), 2),
            onnxruntime_snr_db=round(snr_db(real, exact), 2),
            default_snr_db=round(snr_db(real, default), 2),
            float_top1_agreement=top1_agreement(real, ours),
            onnxruntime_float_top1_agreement=top1_agreement(real, exact),
        )
    reply(compared)


def reference_outputs(path: Path, images: NDArray[np.float32]) -> Outputs:
    """Return what the numpy reference makes of images, float32 (images, classes)."""
    from edgekit.compiler.graph.frontend import read_network
    from edgekit.compiler.graph.reference import run_network
    from edgekit.compiler.onnx_file import load_onnx, specialise

    network = read_network(specialise(load_onnx(path)))
    found = [run_network(network, {_INPUT: image[None]}) for image in images]
    return np.concatenate([next(iter(values.values())) for values in found])


def output_step(path: Path) -> float:
    """Return the scale of a QDQ net's output."""
    import onnx

    model: onnx.ModelProto = onnx.load(path)
    last = next(node for node in model.graph.node if node.output[0] == model.graph.output[0].name)
    assert last.op_type == "DequantizeLinear", f"{path} ends in {last.op_type}"
    scale = next(item for item in model.graph.initializer if item.name == last.input[1])
    return float(onnx.numpy_helper.to_array(scale))


def _edgekit(library: Path, images: NDArray[np.float32]) -> Outputs:
    from edgekit.devices.library import CompiledLibrary

    model = CompiledLibrary(library)
    runs = [model.run_one({_INPUT: image[None]}) for image in images]
    return np.concatenate([next(iter(values.values())) for values in runs])


def _onnxruntime(
    path: Path,
    images: NDArray[np.float32],
    *,
    optimization: str = "all",
    is_exact: bool = True,
) -> Outputs:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimization == "off":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if is_exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {_INPUT: image[None]})[0] for image in images])


if __name__ == "__main__":
    main(sys.argv[1:])
