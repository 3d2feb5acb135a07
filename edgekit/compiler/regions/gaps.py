"""What TVM's ONNX importer lacks, or takes in and gets wrong.

Most attributes and results it does not know it ignores, and the model computes something else.
What is named here is spelled out in simpler operators where ONNX defines how, and refused else.
Found with the node tests that the `onnx` package ships.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import onnx

_HINT = "The tvm engine cannot run this operator; engine onnxruntime may"


def expand_functions(model: onnx.ModelProto, known: Container[str]) -> onnx.ModelProto:
    """Spell out operators TVM does not know, or knows in part, that ONNX defines by others.

    Args:
        model: Checked, with fixed shapes.
        known: Operator types the importer converts.

    Returns:
        The model itself when there is nothing to do.
    """
    import onnx

    kinds = {
        node.op_type
        for node in model.graph.node
        if node.op_type != "Constant" and (node.op_type not in known or _has_statistics(node))
    }
    if not kinds:
        return model
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    # The inliner looks for types of constants where those of all other tensors are.
    typed.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims)
        for item in model.graph.initializer
    )
    return _inlined(typed, sorted(kinds))


def _inlined(model: onnx.ModelProto, kinds: list[str]) -> onnx.ModelProto:
    from onnx import inliner

    functions = [("", kind) for kind in kinds]
    expanded: onnx.ModelProto = inliner.inline_selected_functions(
        model, functions, inline_schema_functions=True
    )
    return expanded


def check_operators(model: onnx.ModelProto, known: Container[str]) -> None:
    """Refuse what the importer does not know and what it would get wrong.

    Raises:
        InputError: The node is named.
    """
    for node in model.graph.node:
        if node.op_type not in known and node.op_type != "Constant":
            raise _refusal(node, "an operator its importer does not know")
        gap = _gap(node)
        if gap is not None:
            raise _refusal(node, gap)


def _has_statistics(node: onnx.NodeProto) -> bool:
    """Return whether a normalisation also gives its mean, which TVM's does not."""
    return node.op_type == "LayerNormalization" and len([name for name in node.output if name]) > 1


def _gap(node: onnx.NodeProto) -> str | None:
    import onnx

    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    results = [name for name in node.output if name]
    if node.op_type == "Resize":
        if attributes.get("antialias", 0):
            return "attribute antialias, which its importer ignores"
        if attributes.get("coordinate_transformation_mode") == b"half_pixel_symmetric":
            return "coordinate_transformation_mode half_pixel_symmetric"
    if node.op_type == "IsInf" and 0 in attributes.values():
        return "infinities of one sign only, which its importer does not tell apart"
    if node.op_type == "Dropout" and len(results) > 1:
        return "a mask as a result, which its importer makes of the wrong type"
    if node.op_type == "BatchNormalization" and attributes.get("training_mode", 0):
        return "training mode, which its importer ignores"
    is_shaped = "output_shape" in attributes and "output_padding" not in attributes
    if node.op_type == "ConvTranspose" and is_shaped:
        return "attribute output_shape, which its importer ignores"
    return None


def _refusal(node: onnx.NodeProto, found: str) -> InputError:
    return InputError(
        f"importing operator '{node.name}' ({node.op_type}) into TVM", found=found, hint=_HINT
    )
