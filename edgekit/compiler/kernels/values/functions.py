"""Functions of float32 vectors by polynomials: no calls into libm, the same code on every CPU.

The coefficients are minimax fits of our own (Lawson's iteration on Chebyshev nodes), rounded to
float32. Errors, evaluated in float32: exp 2 units in the last place, erf 3e-7, tanh 3e-7 relative.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Activation
    from edgekit.compiler.kernels.isa.base import Isa

    Expr: TypeAlias = tvm.tirx.PrimExpr

_MAGIC = 12582912.0  # 1.5 * 2**23, see `isa.base`
_MAGIC_BITS = int(np.float32(_MAGIC).view(np.int32))
_LN2_HIGH = 0.693359375  # nine bits: its products with whole numbers below 2**15 are exact
_LN2_LOW = math.log(2) - _LN2_HIGH
# exp(r) = 1 + r + r^2 * sum(c_i r^i) for |r| <= ln(2) / 2
_EXP = (0.5, 0.1666651964187622, 0.04166620597243309, 0.008368882350623608, 0.0013950478751212358)
# erf(x) = x * sum(c_i t^i), t = 2 x^2 / 15 - 1: in powers of x^2 the terms would cancel.
_ERF_SQUARE = 15.0
_ERF = (
    *(0.3651091158390045, -0.18224290013313293, 0.13551075756549835, -0.10998539626598358),
    *(0.09077998995780945, -0.07364104688167572, 0.05698840320110321, -0.041060496121644974),
    *(0.029086168855428696, -0.02106422930955887, 0.011596684344112873, -0.003464996349066496),
    *(0.002799529815092683, -0.0036307629197835922, 0.0014180715661495924),
)
# tanh(x) = x * sum(c_i x^2i) for x^2 <= 0.4
_TANH_SQUARE = 0.4
_TANH = (
    *(1.0, -0.3333325684070587, 0.1333099752664566, -0.053709838539361954),
    *(0.020552819594740868, -0.005615603178739548),
)


def apply(activation: Activation, value: Expr, isa: Isa) -> Expr:
    """Return the function of a float32 vector of `isa.lanes` values."""
    from tvm.tirx.script.builder import ir as T

    low, high = activation.low, activation.high
    x = value if activation.function == "clip" else T.Bind(value)
    match activation.function:
        case "relu":
            return isa.maximum(x, isa.splat(0))
        case "clip":
            return _clip(x, low, high, isa)
        case "hard-sigmoid":
            return _clip(x * isa.splat(low) + isa.splat(high), 0, 1, isa)
        case "hard-swish":
            return x * _clip(x * isa.splat(1 / 6) + isa.splat(0.5), 0, 1, isa)
        case "leaky-relu":
            return T.Select(x < isa.splat(0), x * isa.splat(low), x)
        case "elu":
            below = (exp(isa.minimum(x, isa.splat(0)), isa) - isa.splat(1)) * isa.splat(low)
            return T.Select(x < isa.splat(0), below, x)
        case "sigmoid":
            return isa.splat(1) / (isa.splat(1) + exp(_negative(x, isa), isa))
        case "silu":
            return x / (isa.splat(1) + exp(_negative(x, isa), isa))
        case "tanh":
            return tanh(x, isa)
        case "gelu":
            half = x * isa.splat(0.5)
            return half + half * erf(x * isa.splat(math.sqrt(0.5)), isa)
        case "gelu-tanh":
            half = x * isa.splat(0.5)
            inner = x * (isa.splat(0.044715) * x * x + isa.splat(1))
            return half + half * tanh(inner * isa.splat(math.sqrt(2 / math.pi)), isa)
        case "exp":
            return exp(x, isa)
        case "erf":
            return erf(x, isa)
        case "sqrt":
            return isa.call(f"llvm.sqrt.v{isa.lanes}f32", f"float32x{isa.lanes}", x)
        case "reciprocal":
            return isa.splat(1) / x
        case "abs":
            return isa.call(f"llvm.fabs.v{isa.lanes}f32", f"float32x{isa.lanes}", x)
        case "neg":
            return _negative(x, isa)


def exp(value: Expr, isa: Isa) -> Expr:
    """Return e**value; 0 below -104, infinity above 89.

    2**n is multiplied in two halves, so that results next to the largest and below the smallest
    normal number come out right too.
    """
    from tvm.tirx.script.builder import ir as T

    whole = f"int32x{isa.lanes}"
    x = T.Bind(_clip(value, -104, 89, isa))
    moved = T.Bind(isa.fence(x * isa.splat(1 / math.log(2)) + isa.splat(_MAGIC)))
    count = T.Bind(isa.fence(moved) - isa.splat(_MAGIC))
    exponent = T.Bind(T.reinterpret(whole, moved) - isa.splat_int(_MAGIC_BITS))
    r = T.Bind(x - count * isa.splat(_LN2_HIGH) - count * isa.splat(_LN2_LOW))
    mantissa = (r * r) * _polynomial(_EXP, r, isa) + r + isa.splat(1)
    half = T.Bind(exponent >> isa.splat_int(1))
    return mantissa * _power_of_two(half, isa) * _power_of_two(exponent - half, isa)


def erf(value: Expr, isa: Isa) -> Expr:
    """Return the error function."""
    from tvm.tirx.script.builder import ir as T

    bound = math.sqrt(_ERF_SQUARE)
    x = T.Bind(_clip(value, -bound, bound, isa))
    t = T.Bind(x * x * isa.splat(2 / _ERF_SQUARE) - isa.splat(1))
    return x * _polynomial(_ERF, t, isa)


def tanh(value: Expr, isa: Isa) -> Expr:
    """Return the hyperbolic tangent: a polynomial near 0, 1 - 2 / (exp(2x) + 1) elsewhere."""
    from tvm.tirx.script.builder import ir as T

    x = T.Bind(_clip(value, -10, 10, isa))
    square = T.Bind(x * x)
    near = x * _polynomial(_TANH, square, isa)
    far = isa.splat(1) - isa.splat(2) / (exp(x + x, isa) + isa.splat(1))
    return T.Select(square < isa.splat(_TANH_SQUARE), near, far)


def _clip(value: Expr, low: float, high: float, isa: Isa) -> Expr:
    if low > -math.inf:
        value = isa.maximum(value, isa.splat(low))
    if high < math.inf:
        value = isa.minimum(value, isa.splat(high))
    return value


def _negative(value: Expr, isa: Isa) -> Expr:
    return isa.splat(0) - value


def _polynomial(coefficients: tuple[float, ...], x: Expr, isa: Isa) -> Expr:
    from tvm.tirx.script.builder import ir as T

    total = isa.splat(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + isa.splat(coefficient)
    return T.Bind(total)


def _power_of_two(exponent: Expr, isa: Isa) -> Expr:
    from tvm.tirx.script.builder import ir as T

    biased = (exponent + isa.splat_int(127)) << isa.splat_int(23)
    return T.reinterpret(f"float32x{isa.lanes}", biased)
