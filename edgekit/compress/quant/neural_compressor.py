"""Search int8 settings with neural-compressor until the metric drops by no more than a goal.

neural-compressor calibrates the torch model and decides which setting is tried next and which one
wins. What it gives is turned into an int8 graph by the same code as everywhere else, and that graph
is what each trial is judged by: the goal holds for what ships, not for a simulation of it.

Why its own int8 graph is not used: its weights use -128, are quantized at run time, and sums and
the class scores stay float. Only its ranges are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgekit.compress.quant.backend import Quantized
from edgekit.compress.quant.calibration import Calibration
from edgekit.compress.quant.prepare import prepare
from edgekit.compress.quant.static import quantize_static
from edgekit.compress.quant.strip import strip_quantizers
from edgekit.core.errors import StageError, require_module
from edgekit.core.model import TensorSpec
from edgekit.zoo.exporters.dynamo import export_module
from edgekit.zoo.exporters.tidy import module_of, name_nodes
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn

Granularity = Literal["per_channel", "per_tensor"]

# Only settings that an integer engine can run: a symmetric uint8 grid needs ReLU as an operator of
# its own, float islands are what `ignored` is for. Per-tensor weights are better now and then,
# where one channel of a depthwise convolution is all but dead.
_SETTINGS: tuple[tuple[str, Granularity], ...] = (
    ("minmax", "per_channel"),
    ("kl", "per_channel"),
    ("minmax", "per_tensor"),
    ("kl", "per_tensor"),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting that was tried.

    Attributes:
        activations: How ranges were chosen, in neural-compressor's words.
        weights: Granularity of the weight scales, likewise.
        drop: Loss of the metric against the float model; negative for a gain.
    """

    activations: str
    weights: str
    drop: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with: the winner and everything that was tried, in order."""

    quantized: Quantized
    chosen: Trial
    trials: tuple[Trial, ...]


def search(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    calibration: Calibration,
    *,
    drop_of: Callable[[onnx.ModelProto], float],
    max_drop: float,
    opset: int,
    scratch: Path,
    ignored: Sequence[str] = (),
) -> Found:
    """Try settings until one keeps the goal, or all have been tried.

    Args:
        module: Float model.
        inputs: Its inputs in order; the batch must be open.
        outputs: Its outputs.
        calibration: Data for the trials; its observer serves values neural-compressor leaves out.
        drop_of: Loss of the metric of an int8 graph against the float model.
        max_drop: Goal.
        opset: ONNX operator set of the result.
        scratch: Folder for temporary files.
        ignored: Node names, patterns or operator types that stay float.

    Returns:
        The first setting within the goal, or the one with the least drop.

    Raises:
        InputError: neural-compressor is not installed, or a pattern matches nothing.
        StageError: The model can't be captured.
    """
    tried: list[tuple[Trial, Quantized]] = []

    def judge(program: Any) -> float:  # noqa: ANN401 - a captured torch program
        if not _is_quantized(program):
            return 1.0  # neural-compressor asks for the float model's score first
        activations, weights = _SETTINGS[len(tried)]
        quantized = _as_int8(
            program, inputs, outputs, calibration, weights, opset, scratch, ignored
        )
        drop = drop_of(quantized.model)
        tried.append((Trial(activations=activations, weights=weights, drop=drop), quantized))
        return 1.0 - drop

    _autotune(module, inputs, calibration, judge, max_drop)
    # Both pick the first trial within the goal: it ends the search and is the best until then.
    chosen, quantized = min(tried, key=lambda found: (found[0].drop > max_drop, found[0].drop))
    return Found(quantized=quantized, chosen=chosen, trials=tuple(trial for trial, _ in tried))


def _autotune(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    calibration: Calibration,
    judge: Callable[[Any], float],
    max_drop: float,
) -> None:
    import torch

    with quiet():
        tool = require_module("neural_compressor.torch.quantization", "nc")
        exporter = require_module("neural_compressor.torch.export", "nc")
        names = [spec.name for spec in inputs]
        batches = [
            tuple(torch.from_numpy(batch[name]) for name in names)
            for batch in calibration.batches()
        ]
        open_batch = {0: torch.export.Dim("batch", min=1, max=4096)}
        try:
            program = exporter.export(
                module.eval(), batches[0], dynamic_shapes=tuple(open_batch for _ in names)
            )
        except Exception as error:
            raise StageError(
                "capturing the model for neural-compressor",
                found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                hint="Export the model and quantize it with backend onnxruntime instead",
            ) from error

        def run(prepared: nn.Module) -> None:
            with torch.no_grad():
                for batch in batches:
                    prepared(*batch)

        tool.autotune(
            program,
            tool.TuningConfig(
                config_set=[
                    tool.StaticQuantConfig(act_algo=activations, w_granularity=weights)
                    for activations, weights in _SETTINGS
                ],
                tolerable_loss=max_drop,
                max_trials=len(_SETTINGS),
            ),
            eval_fn=judge,
            run_fn=run,
            example_inputs=batches[0],
        )


def _as_int8(
    program: Any,  # noqa: ANN401 - a captured torch program
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    calibration: Calibration,
    weights: Granularity,
    opset: int,
    scratch: Path,
    ignored: Sequence[str],
) -> Quantized:
    import onnx

    # A captured program refuses `eval`: it was captured in that mode.
    program.eval = lambda: program
    simulated = export_module(program, inputs, outputs, opset=opset).graph
    scopes = {node.name: module_of(node) for node in simulated.graph.node}
    stripped, ranges = strip_quantizers(simulated)
    name_nodes(stripped.graph, scopes)
    path = scratch / "stripped.onnx"
    onnx.save(stripped, path)
    return quantize_static(
        prepare(path, scratch),
        calibration,
        operators="all",
        per_channel=weights == "per_channel",
        ignored=ignored,
        known=ranges,
    )


def _is_quantized(program: torch.fx.GraphModule) -> bool:
    return any("quantize_per" in str(node.target) for node in program.graph.nodes)
