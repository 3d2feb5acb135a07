"""Windows of convolutions and pools: pads spelled out, and Pad nodes merged into them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph

if TYPE_CHECKING:
    from collections.abc import Sequence


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """State how a convolution or pool walks over height and width.

    Args:
        size: Height and width.
        strides: Vertical, horizontal.
        pads: Top, left, bottom, right.
        dilations: Vertical, horizontal.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]


def window_of(graph: NodeGraph, node: Node, size: Sequence[int]) -> Window:
    """Read a node's window; one over a single axis becomes one of height 1.

    Args:
        graph: The node's graph.
        node: A convolution or pool over one or two axes.
        size: Of its kernel.
    """
    rank = len(size)
    strides = node.integers("strides", [1] * rank)
    dilations = node.integers("dilations", [1] * rank)
    pads = node.integers("pads", [0] * 2 * rank)
    same = node.text("auto_pad", "NOTSET")
    if same == "VALID":
        pads = (0,) * 2 * rank
    elif same != "NOTSET":
        shape = graph.shape(node.reads[0])[2:]
        pads = _same_pads(shape, size, strides, dilations, is_upper=same == "SAME_UPPER")
    if rank == 1:
        return Window(
            size=(1, size[0]),
            strides=(1, strides[0]),
            pads=(0, pads[0], 0, pads[1]),
            dilations=(1, dilations[0]),
        )
    (height, width), (down, right), (rows, columns) = size, strides, dilations
    top, left, bottom, end = pads
    return Window(
        size=(height, width),
        strides=(down, right),
        pads=(top, left, bottom, end),
        dilations=(rows, columns),
    )


def merge_pads(graph: NodeGraph) -> None:
    """Let convolutions and pools pad what a Pad node before them pads.

    A convolution pads with zeros, a maximum with what is never one, an average counts its pads only
    where it says so: other Pad nodes stay.
    """
    from onnx import helper

    for node in graph.nodes():
        before = graph.maker(node.reads[0], "Pad") if node.reads else None
        if before is None or node.domain or not _takes_pads(graph, node, before):
            continue
        rank = len(graph.shape(node.reads[0])) - 2
        more = spatial_pads(graph, before)
        own = node.integers("pads", [0] * 2 * rank)
        if more is None or node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        pads = [a + b for a, b in zip(own, more, strict=True)]
        changed = {"pads": helper.make_attribute("pads", pads)}
        if node.kind == "AveragePool":
            changed["count_include_pad"] = helper.make_attribute("count_include_pad", 1)
        attributes = {name: item for name, item in node.attributes.items() if name != "auto_pad"}
        merged = msgspec.structs.replace(
            node,
            reads=(before.reads[0], *node.reads[1:]),
            nodes=before.nodes + node.nodes,
            attributes=attributes | changed,
        )
        graph.replace([node], [merged])
    graph.prune()


def spatial_pads(graph: NodeGraph, node: Node) -> tuple[int, ...] | None:
    """Return what a Pad node adds: all begins, then all ends, of the axes after the second.

    Returns:
        None when that is only known at run time, when other axes are padded too, or values cut off.
    """
    rank = len(graph.shape(node.reads[0]))
    if "pads" in node.attributes:
        pads = list(node.integers("pads"))
    else:
        value = graph.value(node.operand(1))
        if value is None:
            return None
        pads = [int(item) for item in value.ravel()]
    if node.operand(3):
        axes = graph.value(node.operand(3))
        if axes is None:
            return None
        pads = _over_all_axes(pads, [int(axis) % rank for axis in axes.ravel()], rank)
    begins, ends = pads[:rank], pads[rank:]
    if min(pads, default=0) < 0 or any((*begins[:2], *ends[:2])):
        return None
    return (*begins[2:], *ends[2:])


def pad_value(graph: NodeGraph, node: Node) -> float | None:
    """Return what a Pad node fills with; None when it repeats values or is known at run time."""
    if node.text("mode", "constant") != "constant":
        return None
    if node.operand(2):
        value = graph.value(node.operand(2))
        return None if value is None else float(value.ravel()[0])
    return node.number("value", 0.0)


def _takes_pads(graph: NodeGraph, node: Node, before: Node) -> bool:
    value = pad_value(graph, before)
    if node.kind == "Conv":
        return value == 0.0
    if node.kind == "MaxPool":
        return value == -math.inf and not node.integer("ceil_mode", 0)
    # Pads of an average that were not counted would be from now on.
    return (
        node.kind == "AveragePool"
        and value == 0.0
        and not node.integer("ceil_mode", 0)
        and not any(node.integers("pads"))
    )


def _over_all_axes(pads: list[int], axes: list[int], rank: int) -> list[int]:
    spread = np.zeros((2, rank), np.int64)
    spread[:, axes] = np.reshape(pads, (2, -1))
    return [int(value) for value in spread.ravel()]


def _same_pads(
    shape: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    *,
    is_upper: bool,
) -> tuple[int, ...]:
    begins, ends = [], []
    for length, kernel, stride, dilation in zip(shape, size, strides, dilations, strict=True):
        reach = (kernel - 1) * dilation + 1
        total = max((math.ceil(length / stride) - 1) * stride + reach - length, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if is_upper else large)
        ends.append(large if is_upper else small)
    return (*begins, *ends)
