"""Reshapes computed at run time become constants where only the batch is open.

Why: an exporter writes `x.view(batch, 8, 4)` as five operators that look up the batch, though the
one open size follows from the others: `-1` says the same. What remains is a graph without
integer arithmetic on shapes, which compilers and quantizers then need not understand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_Sizes = list[int | str | None]
"""Sizes: a number, the name of an open one, or None where nothing is known."""
_MOST_ROUNDS = 64
_MOST_STEPS = 32
_SMALL = 64


def settle_reshapes(model: onnx.ModelProto) -> None:
    """Give reshapes constant targets, in place, and drop what computed the old ones.

    Args:
        model: A graph whose inputs are fixed but for the batch.
    """
    for _ in range(_MOST_ROUNDS):
        # Each settled reshape tells the inference more about what comes after it.
        if not _settle_round(model):
            break
    _drop_unused(model.graph)


def _settle_round(model: onnx.ModelProto) -> bool:
    import numpy as np
    from onnx import numpy_helper

    view = _View(model)
    has_changed = False
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or node.input[1] in view.constants:
            continue
        sizes = view.sizes(node.input[1])
        target = None if sizes is None else _target(sizes, view.shapes.get(node.input[0]))
        if target is None:
            continue
        name = f"{node.output[0]}_shape_{index}"
        model.graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), name))
        node.input[1] = name
        has_changed = True
    return has_changed


def _target(sizes: _Sizes, given: _Sizes | None) -> list[int] | None:
    """Return a constant target of the same meaning, or None when there is none.

    Args:
        sizes: Elements of the target as it is computed now.
        given: Shape of what is reshaped.
    """
    is_open = [not isinstance(size, int) for size in sizes]
    if sum(is_open) > 1:
        return None
    numbers = [size if isinstance(size, int) else -1 for size in sizes]
    if not any(is_open) or numbers.count(-1) == 1:
        return numbers
    # Both an open size and a -1: where the open one is of the input too, the -1 is a number.
    name = sizes[is_open.index(True)]
    fixed = [size for size in given or () if isinstance(size, int)]
    if given is None or name is None or given.count(name) != 1 or len(fixed) != len(given) - 1:
        return None
    others = math.prod(size for size in numbers if size != -1)
    if others <= 0 or math.prod(fixed) % others:
        return None
    implied = math.prod(fixed) // others
    return [
        implied if not free and size == -1 else size
        for size, free in zip(numbers, is_open, strict=True)
    ]


class _View:
    """Look up what is known of a graph's integer values and shapes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx
        from onnx import numpy_helper

        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True).graph
        self.shapes: Mapping[str, _Sizes] = {
            info.name: [
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
                for dim in info.type.tensor_type.shape.dim
            ]
            for info in (*inferred.input, *inferred.output, *inferred.value_info)
            if info.type.tensor_type.HasField("shape")
        }
        self.makers = {name: node for node in model.graph.node for name in node.output}
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensors[node.output[0]] = node.attribute[0].t
        self.constants: Mapping[str, list[int]] = {
            name: [int(value) for value in numpy_helper.to_array(tensor).reshape(-1)]
            for name, tensor in tensors.items()
            if tensor.data_type == onnx.TensorProto.INT64
        }

    def sizes(self, name: str, depth: int = 0) -> _Sizes | None:
        """Return the elements of an integer vector or scalar, as far as they are known."""
        if name in self.constants:
            return list(self.constants[name])
        node = self.makers.get(name)
        if node is None or depth > _MOST_STEPS:
            return None
        match node.op_type:
            case "Concat":
                parts = [self.sizes(part, depth + 1) for part in node.input]
                known = [part for part in parts if part is not None]
                return [size for part in known for size in part] if known == parts else None
            case "Unsqueeze" | "Squeeze" | "Cast" | "Identity" | "Reshape":
                return self.sizes(node.input[0], depth + 1)
            case "Shape" if not node.attribute:
                return self.shapes.get(node.input[0])
            case "Gather":
                return self._gather(node, depth)
        return None

    def _gather(self, node: onnx.NodeProto, depth: int) -> _Sizes | None:
        given, chosen = self.sizes(node.input[0], depth + 1), self.constants.get(node.input[1])
        if given is None or chosen is None:
            return None
        if not all(-len(given) <= index < len(given) for index in chosen):
            return None
        return [given[index] for index in chosen]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large constants are inputs: inference copies a model many times."""
    import onnx
    from onnx import helper

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    for field in ("input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light


def _drop_unused(graph: onnx.GraphProto) -> None:
    wanted = {info.name for info in graph.output}
    kept = []
    for node in reversed(graph.node):
        has_bodies = any(attribute.HasField("g") for attribute in node.attribute)
        if has_bodies:
            return  # a body may use any value; nothing is dropped then
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    if len(kept) < len(graph.node):
        nodes = list(reversed(kept))
        del graph.node[:]
        graph.node.extend(nodes)
    values = {name for node in graph.node for name in node.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    infos = [info for info in graph.value_info if info.name in values]
    del graph.initializer[:]
    del graph.value_info[:]
    graph.initializer.extend(tensors)
    graph.value_info.extend(infos)
