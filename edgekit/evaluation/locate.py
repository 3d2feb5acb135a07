"""Where an exported model first differs from the torch model it was exported from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.compiler.onnx_file import load_onnx
from edgekit.core.model import ModelHandle
from edgekit.evaluation.layers import Divergence, first_divergence, graph_values
from edgekit.evaluation.parity import Tolerance
from edgekit.evaluation.predict import ONNX_FILE, fixed_batch

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]

_MAX_ITEMS = 4


def locate(
    before: ModelHandle,
    after: ModelHandle,
    inputs: Mapping[str, Array],
    *,
    optimize: bool,
    allow_code: bool = False,
    tolerance: Tolerance | None = None,
) -> Divergence | None:
    """Return the first layer of an exported graph that differs from its torch model.

    Args:
        before: The torch model.
        after: The ONNX model that was exported from it.
        inputs: Arrays by input name; the first few items are used.
        optimize: Whether onnxruntime may rewrite the graph.
        allow_code: Whether the torch model may be built by the user's code.
        tolerance: How far a layer may be off.

    Raises:
        InputError: A model can't be loaded.
        StageError: The torch model can't be captured any more.
    """
    graph = load_onnx(after.path / ONNX_FILE)
    few = {
        spec.name: inputs[spec.name][: fixed_batch(after.inputs) or _MAX_ITEMS]
        for spec in before.inputs
    }
    reference = _reference(before, graph, few, allow_code=allow_code)
    values = graph_values(graph, few, optimize=optimize)
    return first_divergence(graph, reference, values, tolerance)


def _reference(
    before: ModelHandle, graph: onnx.ModelProto, inputs: Mapping[str, Array], *, allow_code: bool
) -> dict[str, Array]:
    from edgekit.evaluation.torch_values import module_values, program_values
    from edgekit.zoo.checkpoint import load
    from edgekit.zoo.exporters.dynamo import export_module
    from edgekit.zoo.hugging_face import HuggingFaceModule

    module = load(before, allow_code=allow_code).module
    if isinstance(module, HuggingFaceModule):
        arguments = dict(zip(module.inputs, inputs.values(), strict=True))
        return module_values(module.model, arguments, graph)
    opset = next(entry.version for entry in graph.opset_import if not entry.domain)
    exported = export_module(module, before.inputs, before.outputs, opset=opset)
    names = [spec.name for spec in before.outputs]
    return program_values(exported.program, list(inputs.values()), names)
