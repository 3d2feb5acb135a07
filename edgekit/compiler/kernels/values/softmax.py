"""Normalise exponentials along the last axis, row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.draft import Draft
from edgekit.compiler.kernels.values.functions import exp

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Softmax
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_LOWEST = float("-inf")


def build_softmax(op: Softmax, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build the kernel of a softmax of plain rows; items are rows.

    Three passes: the largest value, exponentials of the differences to it and their sum, and the
    division. Values that fill no vector go through a buffer filled up with minus
    infinity, whose exponential is 0.

    Args:
        op: The operator.
        reads: Layout of the operand: a matrix, `width` rows of `lanes` values each.
        write: Layout of the result, the same.
        isa: Instruction set.
    """
    from tvm.tirx.script.builder import ir as T

    (read,) = reads
    assert not read.is_padded, read
    assert not write.is_padded, write
    num_rows, length, lanes = write.height * write.width, write.lanes, isa.lanes
    assert write.blocks == 1, write
    vectors, rest = divmod(length, lanes)
    with Draft(reads, [write]) as draft, draft.items() as item:
        source, target = draft.reads[0], draft.writes[0]
        start = T.Bind(item * length)
        tail = T.alloc_buffer((lanes,), "float32", scope="local")
        state = T.alloc_buffer((lanes,), "float32", scope="local")
        whole = isa.ramp(0)
        T.buffer_store(tail, isa.splat(_LOWEST), [whole])
        for number in range(rest):
            T.buffer_store(tail, source[start + vectors * lanes + number], [number])
        T.buffer_store(state, tail[whole], [whole])
        with T.serial(0, vectors) as step:
            value = source[isa.ramp(start + step * lanes)]
            T.buffer_store(state, isa.maximum(state[whole], value), [whole])
        largest = T.Bind(_over_lanes(state[whole], isa.maximum, lanes))
        if rest:
            T.buffer_store(tail, exp(tail[whole] - largest, isa), [whole])
        T.buffer_store(state, tail[whole] if rest else isa.splat(0), [whole])
        with T.serial(0, vectors) as step:
            place = isa.ramp(start + step * lanes)
            value = T.Bind(exp(source[place] - largest, isa))
            T.buffer_store(target, value, [place])
            T.buffer_store(state, state[whole] + value, [whole])
        total = _over_lanes(state[whole], lambda a, b: a + b, lanes)
        factor = T.Bind(isa.splat(1) / total)
        with T.serial(0, vectors) as step:
            place = isa.ramp(start + step * lanes)
            T.buffer_store(target, target[place] * factor, [place])
        if rest:
            T.buffer_store(tail, tail[whole] * factor, [whole])
        for number in range(rest):
            T.buffer_store(target, tail[number], [start + vectors * lanes + number])
    return draft.built(num_rows)


def _over_lanes(value: Expr, combine: Callable[[Expr, Expr], Expr], lanes: int) -> Expr:
    """Return a vector whose every lane combines all lanes of a vector."""
    from tvm.tirx.script.builder import ir as T

    distance = lanes // 2
    value = T.Bind(value)
    while distance:
        turned = T.Shuffle([value], [(lane + distance) % lanes for lane in range(lanes)])
        value = T.Bind(combine(value, turned))
        distance //= 2
    return value
