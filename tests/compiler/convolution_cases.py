"""Convolutions and matrix products at random, with what they must yield."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.integer_ops import conv2d
from edgekit.arithmetic.requantize import requantize, requantized_add
from edgekit.arithmetic.windows import convolve
from edgekit.compiler.graph.operators import (
    Activation,
    AddLevels,
    Convolution,
    Dense,
    ToFloat,
    ToLevels,
)
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.convolution.direct import build_convolution
from edgekit.compiler.kernels.convolution.geometry import Pads, required_pads
from edgekit.compiler.kernels.convolution.tiles import Tile, candidate_tiles
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume
from tests.compiler.kernel_runner import KernelCase, pack
from tests.compiler.volumes import Array, Source, levels_of

CACHES = {"l1d": 32, "l2": 512}
_NAMES = {"name": "op", "nodes": ("op",), "writes": ("y",)}


class Shape(NamedTuple):
    """State a layer: channels and size of the input, outputs, and the window."""

    inputs: int
    outputs: int
    height: int
    width: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def result(self) -> tuple[int, int]:
        """Return the height and width of the result."""
        top, left, bottom, right = self.pads
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        return (
            (self.height + top + bottom - reach[0]) // self.strides[0] + 1,
            (self.width + left + right - reach[1]) // self.strides[1] + 1,
        )


class Expected(NamedTuple):
    """Hold a kernel's case and the image [C, H, W] it must yield."""

    case: KernelCase
    image: Array
    tolerance: float


def draw_shape(source: Source) -> Shape:
    """Draw a layer of any window, stride, padding, dilation and grouping."""
    pick = source.random.integers
    kernel = (int(pick(1, 4)), int(pick(1, 5)))
    dilations = (int(pick(1, 3)), int(pick(1, 3)))
    groups = int(source.random.choice([1, 1, 1, 2, 3, 4]))
    per_group = int(source.random.choice([1, 3, 4, 8, 12, 16, 20]))
    pads = tuple(int(pick(0, 3)) for _ in range(4))
    return Shape(
        inputs=per_group * groups,
        outputs=int(source.random.choice([1, 5, 8, 16, 24, 40])) * groups,
        height=int(pick(1, 9)) + (kernel[0] - 1) * dilations[0],
        width=int(pick(1, 15)) + (kernel[1] - 1) * dilations[1],
        kernel=kernel,
        strides=(int(pick(1, 3)), int(pick(1, 4))),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        dilations=dilations,
        groups=groups,
    )


def draw_tile(source: Source, op: Convolution | Dense, x: Volume, y: Volume, isa: Isa) -> Tile:
    """Draw one of the tiles the compiler might choose, its items of any size."""
    tiles = candidate_tiles(op, x, y, isa, CACHES, limit=40)
    tile = tiles[int(source.random.integers(len(tiles)))]
    return Tile(
        *(tile.rows, tile.columns, tile.vectors, int(source.random.integers(1, 12))),
        order="outputs" if source.random.random() < 0.5 else "spatial",
        unroll=int(source.random.choice([2, 4, 8])),
    )


def float_case(
    source: Source,
    isa: Isa,
    shape: Shape,
    *,
    narrow: bool = False,
    activation: Activation | None = None,
) -> Expected:
    """Draw a float32 convolution with or without residual and ReLU.

    With another activation the image is what goes into it.
    """
    weights = source.floats((shape.outputs, shape.inputs // shape.groups, *shape.kernel), 0.5)
    bias = source.floats((shape.outputs,))
    image = source.floats((shape.inputs, shape.height, shape.width))
    residual = (
        source.floats((shape.outputs, *shape.result)) if source.random.random() < 0.4 else None
    )
    is_relu = activation is None and source.random.random() < 0.5
    activation = Activation("relu") if is_relu else activation
    op = _convolution(shape, weights, bias, residual, activation=activation)
    exact = _convolved(image, weights, shape) + bias.astype(np.float64).reshape(-1, 1, 1)
    size = _convolved(np.abs(image), np.abs(weights), shape).max() + 10
    if residual is not None:
        exact = exact + residual
    wanted = np.maximum(exact, 0) if is_relu else exact
    lanes = min(shape.inputs, isa.float_block) if narrow else isa.float_block
    volumes = _volumes(source, shape, "float32", "float32", lanes, isa.float_block, (0, 0, 0))
    case = _case(source, op, isa, volumes, image, residual)
    return Expected(case, wanted, 4e-7 * size)


def level_case(
    source: Source,
    isa: Isa,
    shape: Shape,
    *,
    narrow: bool = False,
    weights: Array | None = None,
    image: Array | None = None,
) -> Expected:
    """Draw a convolution of levels to levels or floats, with or without residual."""
    levels = levels_of(isa)
    if weights is None:
        size = (shape.outputs, shape.inputs // shape.groups, *shape.kernel)
        weights = source.random.integers(-127, 128, size).astype(np.int8)
    if image is None:
        image = source.levels((shape.inputs, shape.height, shape.width), levels)
    bias = source.random.integers(-20000, 20000, shape.outputs).astype(np.int32)
    zero_point = source.zero_point(levels)
    sums = conv2d(
        *(image[None], weights, bias, zero_point),
        strides=shape.strides,
        padding=shape.pads,
        dilations=shape.dilations,
        groups=shape.groups,
    )[0]
    kind = source.random.choice(["levels", "added", "floats"])
    channels = int(source.random.choice([1, shape.outputs]))
    spread = float(np.abs(sums).max() + 1)
    result: ToLevels | ToFloat = source.to_levels(levels, spread, channels)
    residual, add, fills = None, None, (zero_point, result.zero_point, 0)
    if kind == "floats":
        result = ToFloat(multipliers=source.random.uniform(0.001, 1, channels).astype(np.float32))
        factors = np.broadcast_to(result.multipliers, shape.outputs).reshape(-1, 1, 1)
        wanted = sums.astype(np.float32) * factors
        fills = (zero_point, 0, 0)
    else:
        wanted = _requantized(sums, result, levels)
    if kind == "added":
        residual = source.levels(wanted.shape, levels)
        add = _draw_add(source, result, levels)
        wanted = _added(wanted, residual, add, levels)
        fills = (zero_point, add.zero_point, add.second_zero_point)
    op = _convolution(
        *(shape, weights, bias, residual), input_zero_point=zero_point, result=result, add=add
    )
    lanes = 4 if narrow else isa.level_block
    y_dtype = "float32" if kind == "floats" else levels.dtype
    block = isa.float_block if kind == "floats" else isa.level_block
    volumes = _volumes(source, shape, levels.dtype, y_dtype, lanes, block, fills)
    return Expected(_case(source, op, isa, volumes, image, residual), wanted, 0.0)


def float_dense_case(source: Source, isa: Isa, rows: int, inputs: int, outputs: int) -> Expected:
    """Draw a product of a float32 matrix [rows, inputs] with weights [outputs, inputs]."""
    weights, bias = source.floats((outputs, inputs), 0.5), source.floats((outputs,))
    matrix = source.floats((inputs, 1, rows))
    residual = source.floats((outputs, 1, rows)) if source.random.random() < 0.5 else None
    reads = ("x",) if residual is None else ("x", "r")
    op = Dense(weights=weights, bias=bias, reads=reads, **_NAMES)
    exact = _dense_sums(matrix, weights) + bias.astype(np.float64).reshape(-1, 1, 1)
    if residual is not None:
        exact = exact + residual
    size = np.abs(matrix).sum(axis=0).max() * np.abs(weights).max() + 10
    volumes = _matrices(rows, inputs, outputs, "float32", "float32", (0, 0, 0))
    case = _case(source, op, isa, volumes, matrix, residual)
    return Expected(case, exact, 4e-7 * float(size))


def level_dense_case(source: Source, isa: Isa, rows: int, inputs: int, outputs: int) -> Expected:
    """Draw a product of a matrix of levels with weights, to levels."""
    levels = levels_of(isa)
    weights = source.random.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    bias = source.random.integers(-20000, 20000, outputs).astype(np.int32)
    matrix = source.levels((inputs, 1, rows), levels)
    zero_point = source.zero_point(levels)
    sums = (_dense_sums(matrix.astype(np.float64) - zero_point, weights)).astype(np.int32)
    sums = sums + bias.reshape(-1, 1, 1)
    result = source.to_levels(levels, float(np.abs(sums).max() + 1), outputs)
    wanted = _requantized(sums, result, levels)
    residual, add = None, None
    if source.random.random() < 0.5:
        residual = source.levels(wanted.shape, levels)
        add = _draw_add(source, result, levels)
        wanted = _added(wanted, residual, add, levels)
    op = Dense(
        weights=weights,
        bias=bias,
        input_zero_point=zero_point,
        result=result,
        add=add,
        reads=("x",) if residual is None else ("x", "r"),
        **_NAMES,
    )
    volumes = _matrices(rows, inputs, outputs, levels.dtype, levels.dtype, (0, 0, 0))
    return Expected(_case(source, op, isa, volumes, matrix, residual), wanted, 0.0)


# ---- parts


def _convolution(
    shape: Shape, weights: Array, bias: Array, residual: Array | None, **more: object
) -> Convolution:
    return Convolution(
        weights=weights,
        bias=bias,
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        groups=shape.groups,
        reads=("x",) if residual is None else ("x", "r"),
        **more,
        **_NAMES,
    )


def _convolved(image: Array, weights: Array, shape: Shape) -> Array:
    return convolve(
        image[None].astype(np.float64),
        weights.astype(np.float64),
        strides=shape.strides,
        padding=shape.pads,
        dilations=shape.dilations,
        groups=shape.groups,
    )[0]


def _dense_sums(matrix: Array, weights: Array) -> Array:
    return np.einsum(
        "okz,kzm->ozm", weights.astype(np.float64)[:, :, None], matrix.astype(np.float64)
    )


def _requantized(sums: Array, result: ToLevels, levels: Levels) -> Array:
    bounds = Levels(dtype=levels.dtype, low=result.low, high=result.high)
    factors = np.broadcast_to(result.multipliers, len(sums))
    return requantize(sums, factors, result.zero_point, bounds, axis=0)


def _draw_add(source: Source, result: ToLevels, levels: Levels) -> AddLevels:
    first, second = source.random.uniform(0.2, 2.0, 2).astype(np.float32)
    return AddLevels(
        first_multiplier=float(first),
        first_zero_point=result.zero_point,
        second_multiplier=float(second),
        second_zero_point=source.zero_point(levels),
        zero_point=source.zero_point(levels),
        low=levels.low,
        high=levels.high,
    )


def _added(first: Array, second: Array, add: AddLevels, levels: Levels) -> Array:
    return requantized_add(
        *(first, add.first_zero_point, np.float32(add.first_multiplier)),
        *(second, add.second_zero_point, np.float32(add.second_multiplier)),
        add.zero_point,
        Levels(dtype=levels.dtype, low=add.low, high=add.high),
    )


def _volumes(
    source: Source,
    shape: Shape,
    x_dtype: str,
    y_dtype: str,
    x_lanes: int,
    y_lanes: int,
    fills: tuple[int, int, int],
) -> tuple[Volume, Volume, Volume]:
    """Return layouts of input, result and residual, padded at least as needed."""
    x_tensor = Tensor("x", (1, shape.inputs, shape.height, shape.width), x_dtype)
    y_tensor = Tensor("y", (1, shape.outputs, *shape.result), y_dtype)
    op = _convolution(
        shape, np.zeros((1, 1, *shape.kernel), np.float32), np.zeros(1, np.float32), None
    )
    more = source.pads()
    needed = required_pads(op, x_tensor, y_tensor)
    top, left, bottom, right = (a + b for a, b in zip(needed, more, strict=True))

    def volume(
        dtype: str, shape_: tuple[int, int, int], lanes: int, pads: Pads, fill: int
    ) -> Volume:
        return Volume(
            dtype=dtype,
            channels=shape_[0],
            height=shape_[1],
            width=shape_[2],
            lanes=lanes,
            pads=pads,
            fill=fill,
        )

    image = (shape.inputs, shape.height, shape.width)
    result = (shape.outputs, *shape.result)
    is_flat = source.random.random() < 0.5
    return (
        volume(x_dtype, image, x_lanes, (top, left, bottom, right), fills[0]),
        volume(y_dtype, result, y_lanes, (0, 0, 0, 0) if is_flat else source.pads(), fills[1]),
        volume(y_dtype, result, y_lanes, (0, 0, 0, 0) if is_flat else source.pads(), fills[2]),
    )


def _matrices(
    rows: int, inputs: int, outputs: int, x_dtype: str, y_dtype: str, fills: tuple[int, int, int]
) -> tuple[Volume, Volume, Volume]:
    def matrix(dtype: str, channels: int, fill: int) -> Volume:
        return Volume(
            dtype=dtype, channels=channels, height=1, width=rows, lanes=channels, fill=fill
        )

    x, y = matrix(x_dtype, inputs, fills[0]), matrix(y_dtype, outputs, fills[1])
    return x, y, matrix(y_dtype, outputs, fills[2])


def _case(
    source: Source,
    op: Convolution | Dense,
    isa: Isa,
    volumes: tuple[Volume, Volume, Volume],
    image: Array,
    residual: Array | None,
) -> KernelCase:
    x, y, r = volumes
    reads = (x,) if residual is None else (x, r)
    tile = draw_tile(source, op, x, y, isa)
    built = build_convolution(op, reads, y, isa, tile)
    inputs = [pack(x, image)]
    if residual is not None:
        inputs.append(pack(r, residual, spare=1))
    return KernelCase(built, tuple(inputs), y)
