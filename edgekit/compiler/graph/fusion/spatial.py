"""Pools, global averages and resizing of images, of floats or levels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compiler.graph.fusion.float_products import is_image
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.windows import Window, window_of
from edgekit.compiler.graph.operators import GlobalAverage, Operator, Pool, Resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def is_plain(graph: NodeGraph, tensor: str) -> bool:
    """Tell whether a tensor holds float32, or levels of a known grid."""
    if tensor in graph.constants:
        return False
    found = graph.tensors[tensor]
    return found.dtype == "float32" or found.grid is not None


def max_pool(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate MaxPool and GlobalMaxPool of an image; without the places of the maxima."""
    x = node.reads[0]
    if not is_image(graph, x) or not is_plain(graph, x) or any(node.writes[1:]):
        return None
    is_global = node.kind == "GlobalMaxPool"
    size = graph.shape(x)[2:] if is_global else node.integers("kernel_shape")
    window = window_of(graph, node, size)
    return [
        Pool(
            name=node.name,
            nodes=node.nodes,
            reads=(x,),
            writes=node.writes[:1],
            mode="max",
            window=window.size,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
        )
    ]


def average_pool(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate AveragePool of float32."""
    x = node.reads[0]
    if not is_image(graph, x) or graph.dtype(x) != "float32":
        return None
    window = window_of(graph, node, node.integers("kernel_shape"))
    if covers_all(window, graph.shape(x)):
        return [global_mean(node)]
    return [
        Pool(
            name=node.name,
            nodes=node.nodes,
            reads=(x,),
            writes=node.writes,
            mode="average",
            window=window.size,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
            divisors=divisors(graph, node, window),
        )
    ]


def global_average(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate GlobalAveragePool, and ReduceMean over height and width, of float32."""
    x = node.reads[0]
    if not is_spatial_mean(graph, node) or graph.dtype(x) != "float32":
        return None
    return [global_mean(node)]


def global_mean(node: Node) -> Operator:
    """Return the average over all of height and width in the place of a node."""
    return GlobalAverage(
        name=node.name, nodes=node.nodes, reads=node.reads[:1], writes=node.writes[:1]
    )


def is_spatial_mean(graph: NodeGraph, node: Node) -> bool:
    """Tell whether a node averages an image over height and width and over nothing else."""
    if node.domain or not node.reads or not is_image(graph, node.reads[0]):
        return False
    if node.kind == "GlobalAveragePool":
        return True
    if node.kind != "ReduceMean":
        return False
    if node.operand(1):
        value = graph.value(node.operand(1))
        axes = [] if value is None else [int(axis) for axis in value.ravel()]
    else:
        axes = list(node.integers("axes"))
    return sorted(axis % 4 for axis in axes) == [2, 3]


def covers_all(window: Window, shape: Sequence[int]) -> bool:
    """Tell whether one unpadded window is the whole image."""
    return window.size == tuple(shape[2:]) and not any(window.pads)


def divisors(graph: NodeGraph, node: Node, window: Window) -> NDArray[np.int32]:
    """Count the values of each window of an average: [out height, out width].

    What lies beyond the padding, in ceil mode, never counts; the padding does when the node says
    so.
    """
    size, out = graph.shape(node.reads[0])[2:], graph.shape(node.writes[0])[2:]
    counts = []
    for axis in range(2):
        before, after = window.pads[axis], window.pads[axis + 2]
        low, high = 0, size[axis]
        if node.integer("count_include_pad", 0):
            low, high = -before, size[axis] + after
        starts = np.arange(out[axis]) * window.strides[axis] - before
        steps = np.arange(window.size[axis]) * window.dilations[axis]
        places = starts[:, None] + steps[None, :]
        counts.append(((places >= low) & (places < high)).sum(axis=1))
    product = counts[0][:, None] * counts[1][None, :]
    counted: NDArray[np.int32] = np.maximum(product, 1).astype(np.int32)
    return counted


def resize(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate Resize and Upsample by whole factors, where source places are the usual ones."""
    x, y = node.reads[0], node.writes[0]
    if not is_image(graph, x) or not is_plain(graph, x):
        return None
    old, new = graph.shape(x), graph.shape(y)
    factors = new[2] // old[2], new[3] // old[3]
    if new != (*old[:2], old[2] * factors[0], old[3] * factors[1]):
        return None
    if not _scales_are(graph, node, factors):
        return None
    mode = node.text("mode", "nearest")
    if mode == "nearest" and all(
        _is_floor(node, length, factor) for length, factor in zip(old[2:], factors, strict=True)
    ):
        name = "nearest"
    elif mode == "linear" and graph.dtype(x) == "float32" and _is_half_pixel(node, new):
        name = "linear"
    else:
        return None
    return [
        Resize(
            name=node.name,
            nodes=node.nodes,
            reads=(x,),
            writes=(y,),
            mode="nearest" if name == "nearest" else "linear",
            factors=factors,
        )
    ]


def _scales_are(graph: NodeGraph, node: Node, factors: tuple[int, int]) -> bool:
    """Tell whether stated scales, by which places are computed, are the whole factors."""
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    if "scales" in node.attributes:
        return list(node.attributes["scales"].floats) == [1, 1, *factors]
    place = 1 if node.kind == "Upsample" or graph.opset < 11 else 2
    if not node.operand(place):
        return True
    value = graph.value(node.operand(place))
    if value is None:
        return False
    axes = node.integers("axes", range(value.size)) if value.size else ()
    stated = {axis % 4: float(scale) for axis, scale in zip(axes, value.ravel(), strict=True)}
    return all(stated.get(axis, want) == want for axis, want in enumerate((1, 1, *factors)))


def _places(node: Node, length: int, factor: int) -> NDArray[np.float64]:
    out = np.arange(length * factor, dtype=np.float64)
    # Before opset 11 the places were what `asymmetric` says since.
    default = "half_pixel" if node.kind == "Resize" and len(node.reads) > 2 else "asymmetric"
    mode = node.text("coordinate_transformation_mode", default)
    if mode in ("half_pixel", "half_pixel_symmetric"):
        return (out + 0.5) / factor - 0.5
    if mode == "pytorch_half_pixel":
        return (out + 0.5) / factor - 0.5 if len(out) > 1 else out * 0
    if mode == "align_corners":
        return out * (length - 1) / max(len(out) - 1, 1)
    return out / factor if mode == "asymmetric" else np.full(len(out), math.nan)


def _is_floor(node: Node, length: int, factor: int) -> bool:
    places = _places(node, length, factor)
    default = "round_prefer_floor" if len(node.reads) > 2 else "floor"
    rounding = node.text("nearest_mode", default)
    rounded = {
        "floor": np.floor(places),
        "ceil": np.ceil(places),
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
    }[rounding]
    return bool(np.array_equal(rounded.clip(0, length - 1), np.arange(len(places)) // factor))


def _is_half_pixel(node: Node, shape: Sequence[int]) -> bool:
    mode = node.text("coordinate_transformation_mode", "half_pixel")
    if node.integer("antialias", 0) or node.integer("exclude_outside", 0) or len(node.reads) < 3:
        return False
    is_half = mode in ("half_pixel", "half_pixel_symmetric")
    return is_half or (mode == "pytorch_half_pixel" and min(shape[2:]) > 1)
