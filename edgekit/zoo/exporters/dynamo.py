"""Torch's own exporter: a captured program, its batch open, written as ONNX with named values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgekit.core.errors import StageError
from edgekit.core.model import TensorSpec
from edgekit.zoo.exporters.shapes import settle_reshapes
from edgekit.zoo.exporters.tidy import scope_of, tidy
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn

MAX_BYTES = 2_000_000_000
"""Weights one ONNX file can hold: protobuf messages end at 2 GiB."""
_MAX_BATCH = 4096


class Exported(NamedTuple):
    """Hold an ONNX graph and the torch program it was written from.

    Values of both have the same names, which is what lets a wrong layer be found.
    """

    graph: onnx.ModelProto
    program: torch.export.ExportedProgram


def export_module(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    opset: int,
) -> Exported:
    """Export a module in eval mode; batch normalisation is folded into the layer before it.

    Args:
        module: Called with the inputs in order; gives one tensor or a tuple in the outputs' order.
        inputs: A first size of None stays open in the graph.
        outputs: Names of the graph's outputs.
        opset: ONNX operator set.

    Raises:
        StageError: The module can't be captured, fixes its batch, or is too large for one file.
    """
    import torch

    check_size(module)
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    is_open = tuple(spec.shape[:1] == (None,) for spec in inputs)
    # Capturing specialises sizes 0 and 1, so the example batch is 2.
    examples = tuple(_example(spec) for spec in inputs)
    try:
        with quiet(), torch.no_grad():
            captured = torch.onnx.export(
                module.eval(),
                examples,
                dynamo=True,
                dynamic_shapes=tuple({0: batch} if is_free else {} for is_free in is_open),
                opset_version=opset,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
                external_data=False,
                verbose=False,
            )
            assert captured is not None
            assert captured.exported_program is not None
            graph, program = captured.model_proto, captured.exported_program
    except Exception as error:
        raise StageError(
            "exporting the torch model to ONNX",
            found=_first_line(error),
            hint="A forward that takes its path or its shapes from the values can't be captured",
        ) from error
    _require_as_asked(graph, inputs, outputs, opset)
    settle_reshapes(graph)
    tidy(graph, inputs, outputs, {node.name: scope_of(node) for node in graph.graph.node})
    return Exported(graph, program)


def check_size(module: nn.Module) -> None:
    """Refuse weights that don't fit into one file.

    Raises:
        StageError: They are larger.
    """
    num_bytes = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    if num_bytes > MAX_BYTES:
        raise StageError(
            "exporting the torch model to ONNX",
            found=f"{num_bytes / 1e9:.1f} GB of weights",
            expected=f"at most {MAX_BYTES / 1e9:.0f} GB, the most one ONNX file holds",
            hint="Distil or prune the model first",
        )


def _require_as_asked(
    graph: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], opset: int
) -> None:
    """Refuse what the exporter does instead of failing: other outputs, opset or batch."""
    doing = "exporting the torch model to ONNX"
    names = [info.name for info in graph.graph.output]
    if names != [spec.name for spec in outputs]:
        raise StageError(
            doing,
            found=f"{len(names)} outputs",
            expected=f"{len(outputs)}: {', '.join(spec.name for spec in outputs)}",
        )
    found = next(entry.version for entry in graph.opset_import if not entry.domain)
    if found != opset:
        raise StageError(
            doing,
            found=f"opset {found}, which this model can't be brought down from",
            expected=f"opset {opset}",
            hint="Use opset 18",
        )
    for info, spec in zip(graph.graph.input, inputs, strict=True):
        if spec.shape[:1] == (None,) and info.type.tensor_type.shape.dim[0].HasField("dim_value"):
            raise StageError(
                doing,
                found=f"a forward that works for one batch size only ('{spec.name}')",
                expected="one that takes any batch",
                hint="Write `x.reshape(len(x), ...)` or `x.flatten(1)` instead of fixed numbers",
            )


def _example(spec: TensorSpec) -> torch.Tensor:
    import torch

    dtype = getattr(torch, spec.dtype)
    # Ones: as token numbers, masks and images they are all valid, and no attention row is empty.
    return torch.ones(spec.batched(2), dtype=dtype)


def _first_line(error: BaseException) -> str:
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    lines = [line.strip() for line in str(root).splitlines() if line.strip()]
    return f"{type(root).__name__}: {lines[0][:200]}" if lines else type(root).__name__
