"""Read a Relax graph as the operators that honest int8 counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compiler.accounting import KINDS, Kind, Operator

if TYPE_CHECKING:
    import tvm

_RELAX_KINDS: dict[str, Kind] = {
    **{f"relax.nn.conv{n}d": "product" for n in (1, 2, 3)},
    **{f"relax.nn.conv{n}d_transpose": "product" for n in (1, 2, 3)},
    "relax.matmul": "product",
    **dict.fromkeys(("relax.add", "relax.subtract", "relax.multiply"), "arithmetic"),
    "relax.divide": "arithmetic",
    "relax.mean": "average",
    **{f"relax.nn.avg_pool{n}d": "average" for n in (1, 2, 3)},
    **{f"relax.nn.adaptive_avg_pool{n}d": "average" for n in (1, 2, 3)},
    **dict.fromkeys(("relax.nn.relu", "relax.clip", "relax.maximum"), "transparent"),
    **dict.fromkeys(("relax.minimum", "relax.reshape", "relax.flatten"), "transparent"),
    **dict.fromkeys(("relax.permute_dims", "relax.squeeze", "relax.expand_dims"), "transparent"),
    **{f"relax.nn.max_pool{n}d": "transparent" for n in (1, 2, 3)},
    "relax.dequantize": "dequantize",
    "relax.quantize": "quantize",
}
KERNEL_KIND = "edgekit.kind"
"""Attribute by which a kernel of our own says which kind of compute operator it is."""


def relax_operators(module: tvm.IRModule) -> tuple[list[Operator], set[str]]:
    """Read `main` of a Relax module before its operators become kernels.

    A kernel of our own, called by `call_tir`, counts when it carries attribute `KERNEL_KIND`.

    Returns:
        The operators, and the names of the constants.
    """
    from tvm import relax

    operators: list[Operator] = []
    reader = _RelaxNames()
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            call = binding.value
            kind: Kind = "transparent"
            operands, name = [call], reader.name(binding.var)
            if isinstance(call, relax.Call):
                kind, operands, name = _relax_call(module, call)
            named = [pair for operand in operands for pair in reader.tensors(operand)]
            # Constants may be anything: an integer kernel carries its scales as floats.
            dtypes = [dtype for read, dtype in named if read not in reader.constants]
            dtypes += reader.dtypes(binding.var.ty)
            operators.append(
                Operator(
                    name=name,
                    kind=kind,
                    reads=tuple(read for read, _ in named),
                    writes=(reader.name(binding.var),),
                    is_integer=all("int" in dtype for dtype in dtypes),
                )
            )
    return operators, reader.constants


class _RelaxNames:
    """Give every tensor of a Relax function a name."""

    def __init__(self) -> None:
        self.constants: set[str] = set()
        self._names: dict[tvm.relax.Var, str] = {}

    def name(self, variable: tvm.relax.Var) -> str:
        return self._names.setdefault(variable, f"t{len(self._names)}")

    def dtypes(self, kind: tvm.ir.Type) -> list[str]:
        fields = getattr(kind, "fields", None)
        if fields is not None:
            return [dtype for field in fields for dtype in self.dtypes(field)]
        return [str(kind.dtype.dtype)] if hasattr(kind, "dtype") else []

    def tensors(self, value: tvm.relax.Expr) -> list[tuple[str, str]]:
        import tvm
        from tvm import relax

        if isinstance(value, relax.Tuple):
            return [pair for field in value.fields for pair in self.tensors(field)]
        if isinstance(value, relax.TupleGetItem):
            return self.tensors(value.tuple_value)
        if isinstance(value, tvm.ir.GenericConst):
            name = f"constant {len(self.constants)}"
            self.constants.add(name)
            return [(name, str(value.value.dtype))]
        if isinstance(value, relax.Var):
            return [(self.name(value), dtype) for dtype in self.dtypes(value.ty)[:1]]
        return []


def _relax_call(
    module: tvm.IRModule, call: tvm.relax.Call
) -> tuple[Kind, list[tvm.relax.Expr], str]:
    operator = str(getattr(call.op, "name", ""))
    if operator != "relax.call_tir":
        return _RELAX_KINDS.get(operator, "other"), list(call.args), operator
    kernel = module[call.args[0]]
    named = str(kernel.attrs.get(KERNEL_KIND, "")) if kernel.attrs else ""
    kind: Kind = next((known for known in KINDS if known == named), "other")
    return kind, list(call.args[1].fields), str(call.args[0].name_hint)
