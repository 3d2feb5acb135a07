"""Read a lowered Relax module as what a C library needs: steps, tensors, constants.

After fusion `main` is a straight line of kernel calls. A `reshape` moves nothing and becomes
another name for its input, a tuple is taken apart, and everything else that could still be there
(a loop, a call into TVM's runtime) is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from edgekit.compiler.aot.lowering import num_bytes
from edgekit.compiler.aot.memory_plan import align
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import tvm


class Value(msgspec.Struct, frozen=True):
    """Name a piece of memory.

    Args:
        place: `input` and `output` are the caller's, `weights` is read-only data, `workspace`
            belongs to the memory plan.
        index: Number of the input, output or workspace tensor; for weights the offset in bytes.
    """

    place: Literal["input", "output", "weights", "workspace"]
    index: int


class Step(msgspec.Struct, frozen=True):
    """Call one kernel.

    Args:
        kernel: Its name.
        reads: Its operands.
        writes: Its results.
    """

    kernel: str
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]


class Copy(msgspec.Struct, frozen=True):
    """Copy a value that no kernel can write to its output directly."""

    source: Value
    output: int
    size: int


class StepGraph(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a whole model.

    Args:
        steps: Kernel calls in order.
        copies: Done after the steps: outputs that are inputs, constants or other outputs.
        tensor_bytes: Size of every workspace tensor, by index.
        weights: Constants, each aligned, equal ones once.
    """

    steps: tuple[Step, ...]
    copies: tuple[Copy, ...]
    tensor_bytes: tuple[int, ...]
    weights: bytes


class _Reader:
    """Build a `StepGraph` binding by binding."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.tensor_bytes: list[int] = []
        self.weights = bytearray()
        self._offsets: dict[bytes, int] = {}
        self._values: dict[tvm.relax.Var, tuple[Value, ...]] = {}

    def bind_inputs(self, params: Iterable[tvm.relax.Var]) -> None:
        for index, param in enumerate(params):
            self._values[param] = (Value("input", index),)

    def bind(self, variable: tvm.relax.Var, value: tvm.relax.Expr) -> None:
        from tvm import relax

        name = getattr(getattr(value, "op", None), "name", "")
        if isinstance(value, relax.Call) and name == "relax.call_tir":
            self._values[variable] = self._call(variable, value)
        elif isinstance(value, relax.Call) and name == "relax.reshape":
            self._values[variable] = self.read(value.args[0])
        elif isinstance(value, relax.Call):
            raise _unsupported(f"operator '{name or value.op}'")
        else:
            self._values[variable] = self.read(value)

    def read(self, value: tvm.relax.Expr) -> tuple[Value, ...]:
        import tvm
        from tvm import relax

        if isinstance(value, tvm.ir.GenericConst):
            return (self._constant(value.value.numpy()),)
        if isinstance(value, relax.Tuple):
            return tuple(part for field in value.fields for part in self.read(field))
        if isinstance(value, relax.TupleGetItem):
            return (self.read(value.tuple_value)[value.index],)
        if isinstance(value, relax.Var) and value in self._values:
            return self._values[value]
        raise _unsupported(f"a {type(value).__name__} as operand")

    def _call(self, variable: tvm.relax.Var, call: tvm.relax.Call) -> tuple[Value, ...]:
        kernel = str(call.args[0].name_hint)
        if len(call.args) > 2:
            raise _unsupported(f"run-time shapes in '{kernel}'")
        fields = getattr(variable.ty, "fields", None)
        writes = tuple(self._tensor(kind) for kind in (fields or [variable.ty]))
        self.steps.append(Step(kernel, self.read(call.args[1]), writes))
        return writes

    def _tensor(self, kind: tvm.relax.TensorType) -> Value:
        self.tensor_bytes.append(num_bytes(kind.shape, kind.dtype.dtype))
        return Value("workspace", len(self.tensor_bytes) - 1)

    def _constant(self, array: np.ndarray) -> Value:
        data = array.tobytes()
        key = hashlib.sha256(data).digest()
        if key not in self._offsets:
            self.weights.extend(bytes(align(len(self.weights)) - len(self.weights)))
            self._offsets[key] = len(self.weights)
            self.weights.extend(data)
        return Value("weights", self._offsets[key])


def read_steps(module: tvm.IRModule) -> StepGraph:
    """Read `main` of a lowered module.

    Args:
        module: Relax `main` that calls kernels, and the kernels.

    Returns:
        The steps, with results written to the outputs directly wherever a kernel makes them.

    Raises:
        InputError: Something in `main` is no kernel call.
    """
    main = module["main"]
    reader = _Reader()
    reader.bind_inputs(main.params)
    for block in main.body.blocks:
        for binding in block.bindings:
            reader.bind(binding.var, binding.value)
    results = reader.read(main.body.body)
    kinds = getattr(main.body.body.ty, "fields", None) or [main.body.body.ty]
    sizes = [num_bytes(kind.shape, kind.dtype.dtype) for kind in kinds]
    direct: dict[Value, Value] = {}
    copies = []
    for index, (result, size) in enumerate(zip(results, sizes, strict=True)):
        if result.place == "workspace" and result not in direct:
            direct[result] = Value("output", index)
        else:
            copies.append(Copy(direct.get(result, result), index, size))
    return StepGraph(
        steps=tuple(_redirect(step, direct) for step in reader.steps),
        copies=tuple(copies),
        tensor_bytes=tuple(reader.tensor_bytes),
        weights=bytes(reader.weights),
    )


def _unsupported(found: str) -> InputError:
    return InputError(
        "turning the model into kernel calls",
        found=found,
        expected="operators with fixed shapes that compute without a runtime",
        hint="The tvm engine cannot run this model; engine onnxruntime may",
    )


def _redirect(step: Step, places: dict[Value, Value]) -> Step:
    return Step(
        step.kernel,
        tuple(places.get(value, value) for value in step.reads),
        tuple(places.get(value, value) for value in step.writes),
    )
