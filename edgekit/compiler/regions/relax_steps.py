"""Read a lowered Relax module as steps.

After fusion `main` is a straight line of kernel calls. A `reshape` moves nothing and becomes
another name for its input, a tuple is taken apart, and everything else that could still be there
(a loop, a call into TVM's runtime) is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgekit.compiler.aot.lowering import num_bytes
from edgekit.compiler.aot.step_graph import StepGraphBuilder, StepKernel, Value
from edgekit.compiler.engine_build import StepFacts
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import tvm


def append_relax_steps(
    module: tvm.IRModule,
    builder: StepGraphBuilder,
    inputs: Sequence[Value],
    *,
    schedule: Callable[[str, tvm.tirx.PrimFunc], tvm.tirx.PrimFunc],
    nodes: tuple[str, ...],
) -> tuple[Value, ...]:
    """Append the kernel calls of `main`.

    Args:
        module: Relax `main` that calls kernels, and the kernels.
        builder: Receives steps, kernels and constants.
        inputs: Where the parameters of `main` lie.
        schedule: Gives a kernel its loops; called with the kernel's name first.
        nodes: ONNX nodes that all of it stands for.

    Returns:
        Where the results lie; one may be an input or a constant.

    Raises:
        InputError: Something in `main` is no kernel call.
    """
    reader = _Reader(module, builder, schedule, nodes)
    main = module["main"]
    reader.bind_inputs(main.params, inputs)
    for block in main.body.blocks:
        for binding in block.bindings:
            reader.bind(binding.var, binding.value)
    return reader.read(main.body.body)


class _Reader:
    def __init__(
        self,
        module: tvm.IRModule,
        builder: StepGraphBuilder,
        schedule: Callable[[str, tvm.tirx.PrimFunc], tvm.tirx.PrimFunc],
        nodes: tuple[str, ...],
    ) -> None:
        self._module = module
        self._builder = builder
        self._schedule = schedule
        self._nodes = nodes
        self._values: dict[tvm.relax.Var, tuple[Value, ...]] = {}
        self._names: dict[str, str] = {}

    def bind_inputs(self, params: Sequence[tvm.relax.Var], inputs: Sequence[Value]) -> None:
        for param, value in zip(params, inputs, strict=True):
            self._values[param] = (value,)

    def bind(self, variable: tvm.relax.Var, value: tvm.relax.Expr) -> None:
        from tvm import relax

        name = getattr(getattr(value, "op", None), "name", "")
        if isinstance(value, relax.Call) and name == "relax.call_tir":
            self._values[variable] = self._call(variable, value)
        elif isinstance(value, relax.Call) and name == "relax.reshape":
            self._values[variable] = self.read(value.args[0])
        elif isinstance(value, relax.Call):
            raise self._unsupported(f"operator '{name or value.op}'")
        else:
            self._values[variable] = self.read(value)

    def read(self, value: tvm.relax.Expr) -> tuple[Value, ...]:
        import tvm
        from tvm import relax

        if isinstance(value, tvm.ir.GenericConst):
            return (self._builder.constant(value.value.numpy()),)
        if isinstance(value, relax.Tuple):
            return tuple(part for field in value.fields for part in self.read(field))
        if isinstance(value, relax.TupleGetItem):
            return (self.read(value.tuple_value)[value.index],)
        if isinstance(value, relax.Var) and value in self._values:
            return self._values[value]
        raise self._unsupported(f"a {type(value).__name__} as operand")

    def _call(self, variable: tvm.relax.Var, call: tvm.relax.Call) -> tuple[Value, ...]:
        kernel = str(call.args[0].name_hint)
        if len(call.args) > 2:
            raise self._unsupported(f"run-time shapes in '{kernel}'")
        kinds = getattr(variable.ty, "fields", None) or [variable.ty]
        writes = tuple(
            self._builder.tensor(num_bytes(kind.shape, kind.dtype.dtype)) for kind in kinds
        )
        dtype = str(kinds[0].dtype.dtype)
        facts = StepFacts(name=f"tvm: {kernel}", nodes=self._nodes, kind="tvm", dtype=dtype)
        self._builder.step(self._kernel(kernel), self.read(call.args[1]), writes, facts)
        return writes

    def _kernel(self, name: str) -> str:
        if name not in self._names:
            scheduled = self._schedule(name, self._module[name])
            self._names[name] = self._builder.kernel(StepKernel(function=scheduled), f"tvm_{name}")
        return self._names[name]

    def _unsupported(self, found: str) -> InputError:
        return InputError(
            f"turning node '{self._nodes[0] if self._nodes else ''}' into kernel calls",
            found=found,
            expected="operators with fixed shapes that compute without a runtime",
            hint="The tvm engine cannot run this model; engine onnxruntime may",
        )
