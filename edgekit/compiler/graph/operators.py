"""Operators of the operator graph, each with a kernel of our own, and `Region` for all others.

Fused already: a `Convolution` carries its bias, residual and activation, a quantized operator its
requantization. An operator whose operands are levels (tensors with a grid) is an integer operator;
`edgekit.arithmetic.requantize` defines what it yields, bit for bit.

Constants are numpy arrays inside the operators. Names in `reads` and `writes` are of tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.compiler.graph.tensors import Tensor

Function = Literal[
    "relu", "clip", "hard-swish", "hard-sigmoid", "silu", "gelu", "gelu-tanh", "sigmoid", "tanh",
    "leaky-relu", "elu", "exp", "sqrt", "reciprocal", "abs", "neg", "erf",
]  # fmt: skip


class Activation(msgspec.Struct, frozen=True):
    """Apply a function to every value.

    Args:
        function: Which one.
        low: Lower bound of `clip`, slope of `leaky-relu`, alpha of `hard-sigmoid` and `elu`.
        high: Upper bound of `clip`, beta of `hard-sigmoid`.
    """

    function: Function
    low: float = float("-inf")
    high: float = float("inf")


class ToLevels(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Requantize int32 accumulators: clamp(round(acc * multiplier)) + zero point, as defined.

    Args:
        multipliers: float32 [channels], or [1] for all channels.
        zero_point: Of the result.
        low: Smallest level of the result; a ReLU behind raises it.
        high: Largest level.
    """

    multipliers: NDArray[np.float32]
    zero_point: int
    low: int
    high: int


class ToFloat(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Turn int32 accumulators into floats: float32(acc) * multiplier.

    Args:
        multipliers: float32 [channels], or [1] for all channels.
    """

    multipliers: NDArray[np.float32]


class AddLevels(msgspec.Struct, frozen=True, kw_only=True):
    """Add two tensors of levels as `arithmetic.requantize.requantized_add` defines.

    Args:
        first_multiplier: float32, scale of the first operand over that of the result.
        first_zero_point: Of the first operand; for a residual, of the convolution's own result.
        second_multiplier: Likewise for the second operand, the residual.
        second_zero_point: Of the second operand.
        zero_point: Of the result.
        low: Smallest level of the result.
        high: Largest level.
    """

    first_multiplier: float
    first_zero_point: int
    second_multiplier: float
    second_zero_point: int
    zero_point: int
    low: int
    high: int


class Operator(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Be the base of all operators.

    Args:
        name: Unique in the network, after the first ONNX node it stands for.
        nodes: Names of all ONNX nodes it stands for.
        reads: Tensors it takes.
        writes: Tensors it makes.
    """

    name: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Convolution(Operator, frozen=True, eq=False, kw_only=True):
    """Convolve [1, C, H, W]; reads (x) or (x, residual of the output's shape).

    float32: y = activation(conv + bias + residual). Levels: conv + bias are int32 accumulators that
    `result` takes further; with `add`, `result` gives the levels of the convolution itself, and
    `add` puts the residual to them. Padding is the real value 0, the level `input_zero_point`.

    Args:
        weights: float32 or int8 [outputs, C / groups, kernel height, kernel width].
        bias: float32 or int32 [outputs]; zero points are NOT folded in.
        strides: Vertical, horizontal.
        pads: Top, left, bottom, right.
        dilations: Vertical, horizontal.
        groups: Number of channel groups.
        activation: Behind everything, for float results.
        input_zero_point: Of levels.
        result: What becomes of int32 accumulators; None for float32.
        add: How the residual is added to levels; None without, or for float32.
    """

    weights: NDArray[np.float32] | NDArray[np.int8]
    bias: NDArray[np.float32] | NDArray[np.int32]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: Activation | None = None
    input_zero_point: int = 0
    result: ToLevels | ToFloat | None = None
    add: AddLevels | None = None


class Dense(Operator, frozen=True, eq=False, kw_only=True):
    """Multiply [..., K] by constant weights to [..., N]; else as `Convolution`.

    Args:
        weights: float32 or int8 [N, K].
        bias: float32 or int32 [N].
    """

    weights: NDArray[np.float32] | NDArray[np.int8]
    bias: NDArray[np.float32] | NDArray[np.int32]
    activation: Activation | None = None
    input_zero_point: int = 0
    result: ToLevels | ToFloat | None = None
    add: AddLevels | None = None


class Pool(Operator, frozen=True, eq=False, kw_only=True):
    """Pool windows of [1, C, H, W]; the result's size is that of the written tensor.

    Windows may reach beyond the padding at the bottom and right (ceil mode); what lies outside of
    the image never counts in a maximum.

    Args:
        mode: `max` keeps levels as they are; `average` of levels requantizes their int32 sum.
        window: Height and width.
        strides: Vertical, horizontal.
        pads: Top, left, bottom, right.
        dilations: Vertical, horizontal.
        divisors: For averages: [out height, out width], how many values each window counts.
        input_zero_point: Of levels.
        result: For averages of levels: multipliers are float32 [out height * out width] or [1],
            scale of the input over scale of the output over the count.
    """

    mode: Literal["max", "average"]
    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    divisors: NDArray[np.int32] | None = None
    input_zero_point: int = 0
    result: ToLevels | None = None


class GlobalAverage(Operator, frozen=True, eq=False, kw_only=True):
    """Average over height and width: [1, C, H, W] to [1, C, 1, 1] (or [1, C] as written).

    Levels: acc = sum(level) - H * W * input_zero_point in int32, then `result`, whose multiplier is
    scale of the input over scale of the output over H * W.

    Args:
        input_zero_point: Of levels.
        result: For levels.
    """

    input_zero_point: int = 0
    result: ToLevels | None = None


class Elementwise(Operator, frozen=True, eq=False, kw_only=True):
    """Combine two tensors value by value, [1, C, 1, 1] being spread over [1, C, H, W].

    The first operand has the result's shape. Levels exist for `add` (`add` says how) and `mul`:
    acc = (first - first zero point) * (second - second zero point) in int32, then `result`.

    Args:
        function: What to compute.
        activation: Behind it, for floats.
        zero_points: Of both operands, for `mul` of levels.
        result: For `mul` of levels.
        add: For `add` of levels.
    """

    function: Literal["add", "sub", "mul", "div", "max", "min"]
    activation: Activation | None = None
    zero_points: tuple[int, int] = (0, 0)
    result: ToLevels | None = None
    add: AddLevels | None = None


class Unary(Operator, frozen=True, eq=False, kw_only=True):
    """Apply a function to a float32 tensor of any shape."""

    activation: Activation


class Lookup(Operator, frozen=True, eq=False, kw_only=True):
    """Replace every level by table[level - lowest level of the input's dtype].

    Args:
        table: uint8 or int8 [256] of the result's dtype.
    """

    table: NDArray[np.uint8] | NDArray[np.int8]


class Quantize(Operator, frozen=True, eq=False, kw_only=True):
    """Turn float32 into the written tensor's levels: clamp(round(x / scale) + zero point)."""


class Dequantize(Operator, frozen=True, eq=False, kw_only=True):
    """Turn levels of the read tensor's grid into float32: (level - zero point) * scale."""


class Rescale(Operator, frozen=True, eq=False, kw_only=True):
    """Move levels to another grid: acc = level - input_zero_point in int32, then `result`."""

    input_zero_point: int
    result: ToLevels


class Concat(Operator, frozen=True, eq=False, kw_only=True):
    """Join tensors of the same dtype, and of the same grid when they have one, along an axis.

    Args:
        axis: 0 or more.
    """

    axis: int


class Resize(Operator, frozen=True, eq=False, kw_only=True):
    """Enlarge height and width of [1, C, H, W] by whole factors.

    Args:
        mode: `nearest` takes source index floor(i / factor); `linear` interpolates with half-pixel
            centres (float32 only), coordinates clamped to the image.
        factors: Vertical, horizontal.
    """

    mode: Literal["nearest", "linear"]
    factors: tuple[int, int]


class Softmax(Operator, frozen=True, eq=False, kw_only=True):
    """Normalise exponentials along the last axis of a float32 tensor."""


class Reshape(Operator, frozen=True, eq=False, kw_only=True):
    """Give the same values another shape, in row-major order."""


class Region(Operator, frozen=True, eq=False, kw_only=True):
    """Hold operators without a kernel of ours; TVM legalises and schedules them.

    Args:
        model: Serialised ONNX model of these nodes; its inputs and outputs are `reads` and
            `writes`, constants are initialisers.
        operators: ONNX operator types inside, for reports.
    """

    model: bytes
    operators: tuple[str, ...]


class Network(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold a whole model.

    Args:
        tensors: Every tensor an operator reads or writes, by name.
        operators: In an order in which they can run.
        inputs: Tensors the caller gives.
        outputs: Tensors the caller receives.
    """

    tensors: dict[str, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
