"""What the operators on levels compute: `edgekit.arithmetic`, put together as operators say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.integer_ops import conv2d, dense, from_zero, products, window_sums
from edgekit.arithmetic.requantize import requantize, requantized_add
from edgekit.compiler.graph.operators import (
    AddLevels,
    Convolution,
    Dense,
    Elementwise,
    GlobalAverage,
    Operator,
    Pool,
    Rescale,
    ToFloat,
    ToLevels,
)
from edgekit.compiler.graph.reference_applied import Applied
from edgekit.compiler.graph.reference_float import activate, pads_for
from edgekit.compiler.graph.tensors import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Accumulators = NDArray[np.int32]
    Reference = Callable[[Applied[Any]], Array]


def _convolution(at: Applied[Convolution]) -> Array:
    accumulators = conv2d(
        at.operands[0],
        at.operator.weights.astype(np.int8, casting="equiv"),
        at.operator.bias.astype(np.int32, casting="equiv"),
        at.operator.input_zero_point,
        strides=at.operator.strides,
        padding=at.operator.pads,
        dilations=at.operator.dilations,
        groups=at.operator.groups,
    )
    return _product_result(at.operator, accumulators, at.operands[1:], at.written, axis=1)


def _dense(at: Applied[Dense]) -> Array:
    rows = at.operands[0].reshape(-1, at.operands[0].shape[-1])
    weights = at.operator.weights.astype(np.int8, casting="equiv")
    bias = at.operator.bias.astype(np.int32, casting="equiv")
    accumulators = dense(rows, weights, bias, at.operator.input_zero_point)
    shaped = accumulators.reshape(at.written.shape)
    return _product_result(at.operator, shaped, at.operands[1:], at.written, axis=-1)


def _product_result(
    operator: Convolution | Dense,
    accumulators: Accumulators,
    residual: Sequence[Array],
    written: Tensor,
    *,
    axis: int,
) -> Array:
    result = operator.result
    if isinstance(result, ToFloat):
        values = _to_float(accumulators, result, axis)
        if residual:
            values = values + residual[0]
        return activate(values.astype(np.float64), operator.activation)
    assert result is not None
    levels = _to_levels(accumulators, result, written, axis)
    return levels if operator.add is None else _added(operator.add, levels, residual[0], written)


def _to_float(accumulators: Accumulators, result: ToFloat, axis: int) -> NDArray[np.float32]:
    shape = [1] * accumulators.ndim
    shape[axis] = -1
    return accumulators.astype(np.float32) * result.multipliers.reshape(shape)


def _to_levels(
    accumulators: Accumulators, result: ToLevels, written: Tensor, axis: int | None
) -> Array:
    levels = Levels(dtype=written.dtype, low=result.low, high=result.high)
    return requantize(accumulators, result.multipliers, result.zero_point, levels, axis=axis)


def _added(add: AddLevels, first: Array, second: Array, written: Tensor) -> Array:
    return requantized_add(
        first,
        add.first_zero_point,
        np.float32(add.first_multiplier),
        second,
        add.second_zero_point,
        np.float32(add.second_multiplier),
        add.zero_point,
        Levels(dtype=written.dtype, low=add.low, high=add.high),
    )


def _pool(at: Applied[Pool]) -> Array:
    top, left, bottom, right = pads_for(at.operator, at.operands[0].shape, at.written.shape)
    batch, channels, rows, columns = at.written.shape
    sums = window_sums(
        at.operands[0],
        at.operator.input_zero_point,
        at.operator.window,
        strides=at.operator.strides,
        padding=(top, left, bottom, right),
        dilations=at.operator.dilations,
    )[:, :, :rows, :columns]
    assert at.operator.result is not None
    # One multiplier per place in the image: windows at the border may count fewer values.
    places = sums.reshape(batch, channels, rows * columns)
    return _to_levels(places, at.operator.result, at.written, axis=2).reshape(at.written.shape)


def _global_average(at: Applied[GlobalAverage]) -> Array:
    values = at.operands[0]
    height, width = values.shape[2:]
    sums = window_sums(values, at.operator.input_zero_point, (height, width))
    assert at.operator.result is not None
    return _to_levels(sums, at.operator.result, at.written, axis=1).reshape(at.written.shape)


def _elementwise(at: Applied[Elementwise]) -> Array:
    first, second = at.operands
    if at.operator.add is not None:
        return _added(at.operator.add, first, second, at.written)
    assert at.operator.result is not None
    first_zero_point, second_zero_point = at.operator.zero_points
    accumulators = products(first, first_zero_point, second, second_zero_point)
    return _to_levels(accumulators, at.operator.result, at.written, axis=None)


def _rescale(at: Applied[Rescale]) -> Array:
    accumulators = from_zero(at.operands[0], at.operator.input_zero_point)
    return _to_levels(accumulators, at.operator.result, at.written, axis=None)


OPERATORS: dict[type[Operator], Reference] = {
    Convolution: _convolution,
    Dense: _dense,
    Pool: _pool,
    GlobalAverage: _global_average,
    Elementwise: _elementwise,
    Rescale: _rescale,
}
