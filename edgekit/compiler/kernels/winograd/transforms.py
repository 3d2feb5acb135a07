"""One-dimensional Winograd transforms of vectors, with the sums their rows have in common shared.

F(4, 3) takes 12 steps for six inputs and 10 for four outputs (a step is a sum or a multiply-add),
where the matrices' rows one by one would take 16 and 14; F(2, 3) takes 4 and 4. Every step
is bound to a name: TVM would compute an expression anew wherever it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.isa.base import Isa

    Expr: TypeAlias = tvm.tirx.PrimExpr


def transformed_inputs(isa: Isa, values: Sequence[Expr]) -> list[Expr]:
    """Return Bt d of m + 2 bound vectors, in which m is 2 or 4."""
    return _inputs_of_2(values) if len(values) == 4 else _inputs_of_4(isa, values)


def transformed_outputs(isa: Isa, values: Sequence[Expr]) -> list[Expr]:
    """Return At x of m + 2 bound vectors: m vectors."""
    return _outputs_of_2(values) if len(values) == 4 else _outputs_of_4(isa, values)


def _inputs_of_2(d: Sequence[Expr]) -> list[Expr]:
    from tvm.tirx.script.builder import ir as T

    return [T.Bind(d[0] - d[2]), T.Bind(d[1] + d[2]), T.Bind(d[2] - d[1]), T.Bind(d[1] - d[3])]


def _inputs_of_4(isa: Isa, d: Sequence[Expr]) -> list[Expr]:
    from tvm.tirx.script.builder import ir as T

    even = T.Bind(d[4] - isa.splat(4) * d[2])
    odd = T.Bind(d[3] - isa.splat(4) * d[1])
    wide_even = T.Bind(d[4] - d[2])
    wide_odd = T.Bind(d[3] - d[1])
    return [
        T.Bind(isa.splat(4) * d[0] + (d[4] - isa.splat(5) * d[2])),
        T.Bind(even + odd),
        T.Bind(even - odd),
        T.Bind(wide_even + isa.splat(2) * wide_odd),
        T.Bind(wide_even - isa.splat(2) * wide_odd),
        T.Bind(isa.splat(4) * d[1] + (d[5] - isa.splat(5) * d[3])),
    ]


def _outputs_of_2(x: Sequence[Expr]) -> list[Expr]:
    from tvm.tirx.script.builder import ir as T

    return [T.Bind(x[0] + x[1] + x[2]), T.Bind(x[1] - x[2] - x[3])]


def _outputs_of_4(isa: Isa, x: Sequence[Expr]) -> list[Expr]:
    from tvm.tirx.script.builder import ir as T

    near_sum, near_difference = T.Bind(x[1] + x[2]), T.Bind(x[1] - x[2])
    far_sum, far_difference = T.Bind(x[3] + x[4]), T.Bind(x[3] - x[4])
    return [
        T.Bind(x[0] + near_sum + far_sum),
        T.Bind(near_difference + isa.splat(2) * far_difference),
        T.Bind(near_sum + isa.splat(4) * far_sum),
        T.Bind(x[5] + near_difference + isa.splat(8) * far_difference),
    ]
