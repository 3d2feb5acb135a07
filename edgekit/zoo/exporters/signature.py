"""Inputs and outputs of ONNX graphs changed so that they say what edgekit's signature says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec

if TYPE_CHECKING:
    import onnx

_BATCH = "batch"


def set_shapes(infos: Sequence[onnx.ValueInfoProto], specs: Sequence[TensorSpec]) -> None:
    """Declare the shapes of a signature, in place; open sizes are called `batch`."""
    by_name = {spec.name: spec for spec in specs}
    for info in infos:
        shape = info.type.tensor_type.shape
        del shape.dim[:]
        for size in by_name[info.name].shape:
            dim = shape.dim.add()
            if size is None:
                dim.dim_param = _BATCH
            else:
                dim.dim_value = size


def rename_batch(graph: onnx.GraphProto) -> None:
    """Call the batch `batch` in the shapes of inner values, in place; call before `set_shapes`."""
    known = {
        info.type.tensor_type.shape.dim[0].dim_param
        for info in graph.input
        if info.type.tensor_type.shape.dim
    } - {""}
    for info in graph.value_info:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in known:
                dim.dim_param = _BATCH


def rename_inputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give inputs other names, in place.

    Args:
        graph: The graph.
        names: New name by old name; equal ones are left alone.

    Raises:
        InputError: The graph uses a new name for something else.
    """
    changed = {old: new for old, new in names.items() if old != new}
    used = {name for node in _nodes(graph) for name in (*node.input, *node.output)}
    used |= {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    for old, new in changed.items():
        if new in used:
            raise InputError(
                f"naming the model's input '{old}' as the data does",
                found=f"'{new}' in use inside the model",
                expected="a free name",
                hint="Rename the input of the dataset or of the model",
            )
    for info in graph.input:
        info.name = changed.get(info.name, info.name)
    for node in _nodes(graph):
        for position, name in enumerate(node.input):
            node.input[position] = changed.get(name, name)


def drop_constant_inputs(graph: onnx.GraphProto) -> None:
    """Take constants off the inputs, where files of an old format list them too, in place."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.input if info.name not in constants]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
