"""What the operators on float32 compute, and those that move values of any type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.arithmetic.affine import INT8, UINT8, AffineGrid, dequantize, quantize
from edgekit.arithmetic.windows import convolve, windows
from edgekit.compiler.graph.operators import (
    Activation,
    Concat,
    Convolution,
    Dense,
    Dequantize,
    Elementwise,
    GlobalAverage,
    Lookup,
    Operator,
    Pool,
    Quantize,
    Reshape,
    Resize,
    Softmax,
    Unary,
)
from edgekit.compiler.graph.reference_applied import Applied
from edgekit.compiler.graph.tensors import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Reals = NDArray[np.float64]
    Reference = Callable[[Applied[Any]], Array]

LEVELS = {"uint8": UINT8, "int8": INT8}


def activate(values: Reals, activation: Activation | None) -> NDArray[np.float32]:
    """Apply a fused activation and round to float32.

    Args:
        values: Any shape.
        activation: None to leave them as they are.

    Returns:
        Same shape.
    """
    if activation is not None:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            values = _FUNCTIONS[activation.function](values, activation)
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def pads_for(
    operator: Pool, image: tuple[int, ...], result: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Give the pads that make a pool yield its result's size, which ceil mode enlarges.

    Args:
        operator: The pool.
        image: Shape of what it reads.
        result: Shape of what it writes.

    Returns:
        Top, left, bottom, right.
    """
    top, left, bottom, right = operator.pads
    needed = [
        (size - 1) * stride + (window - 1) * dilation + 1
        for size, stride, window, dilation in zip(
            result[2:], operator.strides, operator.window, operator.dilations, strict=True
        )
    ]
    bottom = max(bottom, needed[0] - image[2] - top)
    return top, left, bottom, max(right, needed[1] - image[3] - left)


def _convolution(at: Applied[Convolution]) -> Array:
    sums = convolve(
        at.operands[0].astype(np.float64),
        at.operator.weights.astype(np.float64),
        strides=at.operator.strides,
        padding=at.operator.pads,
        dilations=at.operator.dilations,
        groups=at.operator.groups,
    )
    sums += at.operator.bias.astype(np.float64).reshape(1, -1, 1, 1)
    return activate(sums + _residual(at.operands), at.operator.activation)


def _dense(at: Applied[Dense]) -> Array:
    sums = at.operands[0].astype(np.float64) @ at.operator.weights.astype(np.float64).T
    return activate(sums + at.operator.bias + _residual(at.operands), at.operator.activation)


def _residual(operands: Sequence[Array]) -> Reals | float:
    return operands[1].astype(np.float64) if len(operands) > 1 else 0.0


def _pool(at: Applied[Pool]) -> Array:
    is_max = at.operator.mode == "max"
    seen = windows(
        at.operands[0].astype(np.float64),
        at.operator.window,
        strides=at.operator.strides,
        padding=pads_for(at.operator, at.operands[0].shape, at.written.shape),
        dilations=at.operator.dilations,
        fill=-math.inf if is_max else 0.0,
    )[:, :, : at.written.shape[2], : at.written.shape[3]]
    pooled: Reals = seen.max(axis=(4, 5)) if is_max else seen.sum(axis=(4, 5))
    if at.operator.divisors is not None:
        pooled = pooled / at.operator.divisors
    return pooled.astype(at.written.dtype)


def _global_average(at: Applied[GlobalAverage]) -> Array:
    mean: Reals = at.operands[0].mean(axis=(2, 3), dtype=np.float64)
    return mean.astype(np.float32).reshape(at.written.shape)


def _elementwise(at: Applied[Elementwise]) -> Array:
    first, second = (operand.astype(np.float64) for operand in at.operands)
    with np.errstate(divide="ignore", invalid="ignore"):
        return activate(_PAIRS[at.operator.function](first, second), at.operator.activation)


def _unary(at: Applied[Unary]) -> Array:
    return activate(at.operands[0].astype(np.float64), at.operator.activation)


def _lookup(at: Applied[Lookup]) -> Array:
    lowest = LEVELS[at.reads[0].dtype].low
    return at.operator.table[at.operands[0].astype(np.int32) - lowest]


def _quantize(at: Applied[Quantize]) -> Array:
    return quantize(at.operands[0], _grid(at.written))


def _dequantize(at: Applied[Dequantize]) -> Array:
    return dequantize(at.operands[0], _grid(at.reads[0]))


def _grid(tensor: Tensor) -> AffineGrid:
    assert tensor.grid is not None
    return AffineGrid(
        scale=np.asarray(tensor.grid.scale, np.float32),
        zero_point=np.asarray(tensor.grid.zero_point, np.int32),
        levels=LEVELS[tensor.dtype],
    )


def _concat(at: Applied[Concat]) -> Array:
    return np.concatenate(at.operands, axis=at.operator.axis)


def _resize(at: Applied[Resize]) -> Array:
    values = at.operands[0]
    for axis, factor in zip((2, 3), at.operator.factors, strict=True):
        enlarge = np.repeat if at.operator.mode == "nearest" else _interpolate
        values = enlarge(values, factor, axis)
    return values.astype(at.operands[0].dtype)


def _interpolate(values: Array, factor: int, axis: int) -> Reals:
    size = values.shape[axis]
    places = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    before = np.floor(places).astype(np.int64)
    after = np.minimum(before + 1, size - 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    share = (places - before).reshape(shape)
    low, high = (values.take(index, axis).astype(np.float64) for index in (before, after))
    return low * (1 - share) + high * share


def _softmax(at: Applied[Softmax]) -> Array:
    values = at.operands[0].astype(np.float64)
    powers: Reals = np.exp(values - values.max(axis=-1, keepdims=True))
    total: Reals = powers.sum(axis=-1, keepdims=True)
    return (powers / total).astype(np.float32)


def _reshape(at: Applied[Reshape]) -> Array:
    return at.operands[0].reshape(at.written.shape)


def _sigmoid(values: Reals) -> Reals:
    return 1 / (1 + np.exp(-values))


def _erf(values: Reals) -> Reals:
    return np.asarray(_erf_of_each(values), np.float64)


_erf_of_each = np.vectorize(math.erf, otypes=[np.float64])
_GELU_SLOPE = math.sqrt(2 / math.pi)
_FUNCTIONS: dict[str, Callable[[Reals, Activation], Reals]] = {
    "relu": lambda x, _: np.maximum(x, 0),
    "clip": lambda x, a: np.minimum(np.maximum(x, a.low), a.high),
    "hard-swish": lambda x, _: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard-sigmoid": lambda x, a: np.clip(a.low * x + a.high, 0, 1),
    "silu": lambda x, _: x * _sigmoid(x),
    "gelu": lambda x, _: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu-tanh": lambda x, _: x * 0.5 * (1 + np.tanh(_GELU_SLOPE * (x + 0.044715 * x**3))),
    "sigmoid": lambda x, _: _sigmoid(x),
    "tanh": lambda x, _: np.tanh(x),
    "leaky-relu": lambda x, a: np.where(x < 0, a.low * x, x),
    "elu": lambda x, a: np.where(x < 0, a.low * np.expm1(np.minimum(x, 0)), x),
    "exp": lambda x, _: np.exp(x),
    "sqrt": lambda x, _: np.sqrt(x),
    "reciprocal": lambda x, _: 1 / x,
    "abs": lambda x, _: np.abs(x),
    "neg": lambda x, _: -x,
    "erf": lambda x, _: _erf(x),
}
_PAIRS: dict[str, Callable[[Reals, Reals], Reals]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}
OPERATORS: dict[type[Operator], Reference] = {
    Convolution: _convolution,
    Dense: _dense,
    Pool: _pool,
    GlobalAverage: _global_average,
    Elementwise: _elementwise,
    Unary: _unary,
    Lookup: _lookup,
    Quantize: _quantize,
    Dequantize: _dequantize,
    Concat: _concat,
    Resize: _resize,
    Softmax: _softmax,
    Reshape: _reshape,
}
