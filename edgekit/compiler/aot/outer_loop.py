"""Turn the outermost parallel loop of a lowered kernel into a range that the caller gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm


def take_outer_loop(
    function: tvm.tirx.PrimFunc,
) -> tuple[tvm.tirx.PrimFunc, int] | None:
    """Give a kernel that is one parallel loop over everything `int32` parameters begin and end.

    Args:
        function: Lowered, over pointers; ends in a `return`.

    Returns:
        The function with two more parameters and the loop's extent; None when its body is
        anything else than such a loop, which then stays a loop.
    """
    from tvm import tirx

    statements = _flat(function.body)
    loops = [part for part in statements if isinstance(part, tirx.For)]
    around = (tirx.DeclBuffer, tirx.AllocBuffer, tirx.Evaluate, tirx.For, tirx.Return)
    if len(loops) != 1 or not all(isinstance(part, around) for part in statements):
        return None
    if any(isinstance(part, tirx.AllocBuffer) for part in statements):
        return None  # memory that all rounds of the loop share
    loop = loops[0]
    is_plain = isinstance(loop.extent, tirx.IntImm) and int(loop.min) == 0
    if loop.kind != tirx.ForKind.PARALLEL or not is_plain:
        return None
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    first, last = (bound.astype(str(loop.loop_var.ty)) for bound in (begin, end))
    ranged = tirx.For(loop.loop_var, first, last - first, tirx.ForKind.SERIAL, loop.body)
    body = tirx.SeqStmt([ranged if part.same_as(loop) else part for part in statements])
    params = [*function.params, begin, end]
    changed = tirx.PrimFunc(params, body, function.ret_type, function.attrs)
    return changed, int(loop.extent)


def _flat(statement: tvm.tirx.Stmt) -> list[tvm.tirx.Stmt]:
    from tvm import tirx

    if isinstance(statement, tirx.SeqStmt):
        return [part for item in statement.seq for part in _flat(item)]
    return [statement]


def rebuild(
    statement: tvm.tirx.Stmt, change: Callable[[tvm.tirx.Stmt], tvm.tirx.Stmt]
) -> tvm.tirx.Stmt:
    """Rebuild a statement bottom-up: TVM 0.27 has no statement mutator in Python.

    Args:
        statement: What to rebuild.
        change: Called with every statement after its parts were rebuilt.
    """
    from tvm import tirx

    if isinstance(statement, tirx.SeqStmt):
        parts = [rebuild(part, change) for part in statement.seq]
        return change(tirx.SeqStmt(parts))
    if isinstance(statement, tirx.For):
        loop = statement
        body = rebuild(loop.body, change)
        rebuilt = tirx.For(
            *(loop.loop_var, loop.min, loop.extent, loop.kind, body),
            *(loop.thread_binding, loop.annotations, loop.step),
        )
        return change(rebuilt)
    if isinstance(statement, tirx.While):
        return change(tirx.While(statement.condition, rebuild(statement.body, change)))
    if isinstance(statement, tirx.AttrStmt):
        body = rebuild(statement.body, change)
        return change(tirx.AttrStmt(statement.node, statement.attr_key, statement.value, body))
    if isinstance(statement, tirx.IfThenElse):
        then = rebuild(statement.then_case, change)
        other = statement.else_case
        return change(
            tirx.IfThenElse(
                statement.condition, then, rebuild(other, change) if other is not None else None
            )
        )
    return change(statement)
