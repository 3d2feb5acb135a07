"""Legalise what TVM leaves to its runtime library: running sums and products, and the largest k.

A plain C library has no such runtime. Places in an ordering are counted instead of sorted: value i
goes to place number of values before it, which costs n * n comparisons for n values and needs no
memory of unknown size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import tvm

    Value: TypeAlias = tvm.ir.Expr
    Legalize = Callable[[tvm.relax.BlockBuilder, tvm.relax.Call], tvm.relax.Expr]


def legalize_map() -> dict[str, Legalize]:
    """Return what `relax.transform.LegalizeOps` takes for these operators."""
    from tvm import topi

    return {
        "relax.cumsum": _scan(topi.cumsum),
        "relax.cumprod": _scan(topi.cumprod),
        "relax.topk": _legalize_topk,
    }


def _scan(compute: Callable[..., Any]) -> Legalize:
    def legalize(builder: tvm.relax.BlockBuilder, call: tvm.relax.Call) -> tvm.relax.Expr:
        attributes = call.attrs
        axis = None if attributes.axis is None else int(attributes.axis)
        return builder.call_te(
            compute, call.args[0], axis, attributes.dtype, bool(attributes.exclusive)
        )

    return legalize


def _legalize_topk(builder: tvm.relax.BlockBuilder, call: tvm.relax.Call) -> tvm.relax.Expr:
    attributes = call.attrs
    return builder.call_te(
        _topk,
        call.args[0],
        int(attributes.k),
        int(attributes.axis),
        str(attributes.ret_type),
        bool(attributes.largest),
        str(attributes.dtype),
    )


def _topk(
    values: tvm.te.Tensor, k: int, axis: int, wanted: str, largest: bool, dtype: str
) -> list[tvm.te.Tensor]:
    from tvm import te, tirx

    shape = [int(size) for size in values.shape]
    axis %= len(shape)
    size = shape[axis]

    def at(place: tuple[Value, ...], index: Value) -> Value:
        return values(*place[:axis], index, *place[axis + 1 :])

    def precedes(place: tuple[Value, ...], other: Value) -> Value:
        one, two = at(place, place[axis]), at(place, other)
        is_before = two > one if largest else two < one
        # Among equals the first comes first.
        return tirx.any(is_before, tirx.all(two == one, other < place[axis]))

    other = te.reduce_axis((0, size), "other")
    ranks = te.compute(
        shape,
        lambda *place: te.sum(precedes(place, other).astype("int32"), axis=other),
        name="rank",
    )
    taken = [*shape[:axis], k if k > 0 else size, *shape[axis + 1 :]]

    def pick(
        what: Callable[[tuple[Value, ...], Value], Value], kind: str, name: str
    ) -> tvm.te.Tensor:
        each = te.reduce_axis((0, size), "each")

        def body(*place: Value) -> Value:
            is_it = ranks(*place[:axis], each, *place[axis + 1 :]) == place[axis].astype("int32")
            zero = tirx.const(0, kind)
            return te.sum(tirx.if_then_else(is_it, what(place, each), zero), axis=each)

        return te.compute(taken, body, name=name)

    found = {
        "values": lambda: pick(at, values.dtype, "values"),
        "indices": lambda: pick(lambda _, each: each.astype(dtype), dtype, "indices"),
    }
    return [found[name]() for name in found if wanted in (name, "both")]
