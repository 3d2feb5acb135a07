"""Tiles: what a convolution keeps in registers, and in which order it walks.

A tile is `rows * columns` pixels of `vectors` vectors of outputs. Per step (an input channel, or
`dot_group` channels of levels) it loads each vector's weights and each pixel's input once, so tiles
near a square need the fewest loads for a multiplication.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from edgekit.compiler.graph.operators import Convolution, Dense
from edgekit.compiler.kernels.convolution.cuts import cut_evenly
from edgekit.compiler.kernels.convolution.geometry import Layer, layer_of
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.forms import TileShape
from edgekit.compiler.kernels.volume import Volume


class Tile(msgspec.Struct, frozen=True):
    """State how a convolution is cut.

    Args:
        rows: Rows of a register tile.
        columns: Columns of a register tile.
        vectors: Output vectors of a register tile; its weights lie together in memory.
        lines: Rows that one item computes, of images of one row: columns.
        order: What stays the same from item to item: `outputs` keeps the weights and walks over
            the image, `spatial` keeps a part of the image and walks over the outputs.
        unroll: Steps written out without a loop.
    """

    rows: int
    columns: int
    vectors: int
    lines: int
    order: Literal["outputs", "spatial"] = "outputs"
    unroll: int = 8

    def __str__(self) -> str:
        shape = f"{self.rows}x{self.columns}x{self.vectors}"
        return f"{shape} {self.lines} {self.order} {self.unroll}"


def parse_tile(text: str) -> Tile:
    """Return the tile that `str` wrote.

    Raises:
        ValueError: It did not.
    """
    shape, lines, order, unroll = text.split(" ")
    rows, columns, vectors = shape.split("x")
    if order not in ("outputs", "spatial"):
        raise ValueError(f"order is '{order}', must be 'outputs' or 'spatial'")
    return Tile(
        *(int(rows), int(columns), int(vectors), int(lines)),
        order="outputs" if order == "outputs" else "spatial",
        unroll=int(unroll),
    )


def tile_key(op: Convolution | Dense, x: Volume, y: Volume, isa: Isa) -> str:
    """Name everything the best tile depends on: the layer's shape, dtype and vector width."""
    layer = layer_of(op, (x,), y, isa)
    (height, width), (down, right) = layer.kernel, layer.strides
    dtype = "int8" if layer.is_integer else "float32"
    image = f"{layer.y.height}x{layer.y.width}"
    flat = "" if layer.x.is_padded or layer.y.is_padded else " flat"
    channels = f"{layer.groups * layer.group_inputs}-{len(layer.weights)}"
    dilated = "" if layer.dilations == (1, 1) else f" d{layer.dilations[0]}x{layer.dilations[1]}"
    grouped = "" if layer.groups == 1 else f" g{layer.groups}"
    return (
        f"{dtype} {channels} {image} k{height}x{width} s{down}x{right}{dilated}{grouped}"
        f"{flat} b{layer.x.lanes}-{layer.y.lanes}"
    )


def choose_tile(
    op: Convolution | Dense, x: Volume, y: Volume, isa: Isa, caches_kib: Mapping[str, int]
) -> Tile:
    """Return the tile that should be fastest by a model of registers, issue slots and caches.

    Args:
        op: The operator.
        x: Layout of its input.
        y: Layout of its result.
        isa: Instruction set.
        caches_kib: Sizes of the target's caches: `l1d`, `l2`.
    """
    return candidate_tiles(op, x, y, isa, caches_kib, limit=1)[0]


def candidate_tiles(
    op: Convolution | Dense,
    x: Volume,
    y: Volume,
    isa: Isa,
    caches_kib: Mapping[str, int],
    *,
    limit: int = 12,
) -> list[Tile]:
    """Return the most promising tiles, the best by the model first.

    Args:
        op: The operator.
        x: Layout of its input.
        y: Layout of its result.
        isa: Instruction set.
        caches_kib: Sizes of the target's caches: `l1d`, `l2`.
        limit: How many at most.
    """
    layer = layer_of(op, (x,), y, isa)
    caches = _Caches(
        caches_kib.get("l1d", _LEAST_L1_KIB) * 1024, caches_kib.get("l2", _LEAST_L2_KIB) * 1024
    )
    shapes = sorted(_shapes(layer, isa), key=lambda shape: _cycles(layer, isa, shape, caches))
    tiles: dict[Tile, None] = {}
    for shape in shapes[:limit]:
        first = _whole_tile(layer, isa, shape, caches)
        tiles.update(dict.fromkeys([first, *_other_orders(layer, first)]))
    return list(tiles)[:limit]


_LEAST_L1_KIB = 32
_LEAST_L2_KIB = 256
_L2_SHARE = 0.7
_BEYOND_L1 = 1.02
_BEYOND_L2 = 2.0
_MOST_COLUMNS = 28
_MOST_ROWS = 4
_WANTED_ITEMS = 8
_Shape = tuple[int, int, int]


class _Caches(NamedTuple):
    l1_bytes: int
    l2_bytes: int


def _shapes(layer: Layer, isa: Isa) -> list[_Shape]:
    height, width = layer.y.height, layer.y.width
    total = layer.group_vectors(isa.lanes)
    ratio = max(layer.y.lanes // isa.lanes, 1) if layer.y.blocks > 1 else 1
    return [
        (rows, columns, vectors)
        for vectors in range(1, min(total, isa.num_registers) + 1)
        for rows in range(1, min(height, _MOST_ROWS) + 1)
        for columns in range(1, min(width, _MOST_COLUMNS) + 1)
        if isa.holds(_tile_shape(layer, rows, columns, vectors))
        and (vectors % ratio == 0 or ratio % vectors == 0)
    ]


def _cycles(layer: Layer, isa: Isa, shape: _Shape, caches: _Caches) -> float:
    """Return about how many cycles all tiles of a shape take.

    Every tile of pixels reads its output block's weights again. From beyond the L2 cache they come
    several times more slowly than they are used.
    """
    rows, columns, vectors = shape
    y, steps = layer.y, layer.num_steps(isa)
    total = 0.0
    for high in cut_evenly(y.height, rows).pieces:
        for wide in cut_evenly(y.width, columns).pieces:
            for deep in cut_evenly(layer.group_vectors(isa.lanes), vectors).pieces:
                part = _tile_shape(layer, high.size, wide.size, deep.size)
                count = high.count * wide.count * deep.count
                total += count * isa.tile_cycles(part, steps)
    block_bytes = steps * vectors * layer.step(isa) * layer.weights.itemsize
    if block_bytes > _L2_SHARE * caches.l2_bytes:
        return total * _BEYOND_L2
    return total * _BEYOND_L1 if block_bytes > caches.l1_bytes else total


def _tile_shape(layer: Layer, rows: int, columns: int, vectors: int) -> TileShape:
    return TileShape(
        rows=rows,
        columns=columns,
        vectors=vectors,
        kernel_width=layer.kernel[1],
        stride=layer.strides[1],
        is_integer=layer.is_integer,
        has_residual=layer.residual is not None,
    )


def _whole_tile(layer: Layer, isa: Isa, shape: _Shape, caches: _Caches) -> Tile:
    """Add the order and the size of items.

    An image that fits half of the L2 cache stays there while output blocks change. Of a larger one
    either parts stay, and all weights stream past each, or blocks of weights stay and the image
    streams past each: whichever moves fewer bytes.
    """
    rows, columns, vectors = shape
    room = caches.l2_bytes // 2
    weights = layer.weights.nbytes
    image = layer.x.elements * layer.weights.itemsize
    lines, step = _lines(layer, rows, columns)
    chunks = max(-(-image // room), 1)
    blocks = layer.groups * -(-layer.group_vectors(isa.lanes) // vectors)
    if image <= room or weights * chunks > image * blocks:
        share = lines if blocks >= _WANTED_ITEMS else -(-lines * blocks // _WANTED_ITEMS)
        share = max(-(-share // step) * step, step)
        return Tile(rows, columns, vectors, share, "outputs", isa.unroll)
    share = max(-(-lines // chunks) // step * step, step)
    return Tile(rows, columns, vectors, share, "spatial", isa.unroll)


def _other_orders(layer: Layer, tile: Tile) -> list[Tile]:
    """Return the same register tile with other items."""
    lines, step = _lines(layer, tile.rows, tile.columns)
    orders: tuple[tuple[Literal["outputs", "spatial"], int], ...] = (
        ("outputs", lines),
        ("spatial", max(lines // 4 // step * step, step)),
        ("spatial", step),
    )
    return [msgspec.structs.replace(tile, order=order, lines=share) for order, share in orders]


def _lines(layer: Layer, rows: int, columns: int) -> tuple[int, int]:
    """Return the lines items are cut from, and how many of them a register tile has."""
    y = layer.y
    return (y.width, columns) if y.height == 1 else (y.height, rows)
