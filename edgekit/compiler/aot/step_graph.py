"""A compiled model as steps: which kernel is called with which pieces of memory, in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from edgekit.compiler.aot.memory_plan import align
from edgekit.compiler.engine_build import StepFacts

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


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Call one kernel.

    Args:
        kernel: Its name.
        reads: Its operands and constants.
        writes: Its results.
        facts: What it is, for people.
    """

    kernel: str
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    facts: StepFacts


class Copy(msgspec.Struct, frozen=True):
    """Copy a value that no kernel can write to its output directly."""

    source: Value
    output: int
    size: int


class StepKernel(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold one function and how it may be called.

    Args:
        function: Over buffers, scratch and the range of items as `kernels.kernel.Kernel` says; or
            over buffers alone.
        num_items: Size of the range; 0 for a function without one, which `lower_kernels` may turn
            into one whose outermost loop is the range.
        scratch_bytes: Of one thread, in the parameter before the range.
    """

    function: tvm.tirx.PrimFunc
    num_items: int = 0
    scratch_bytes: int = 0


class StepGraph(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a whole model.

    Args:
        steps: Kernel calls in order.
        copies: Done after the steps: outputs that are inputs, constants or other outputs.
        tensor_bytes: Size of every workspace tensor, by index.
        weights: Constants, each aligned, equal ones once.
        kernels: Functions by name, equal ones once.
    """

    steps: tuple[Step, ...]
    copies: tuple[Copy, ...]
    tensor_bytes: tuple[int, ...]
    weights: bytes
    kernels: Mapping[str, StepKernel]


class StepGraphBuilder:
    """Collect steps, constants and kernels; equal constants and equal kernels become one."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._tensor_bytes: list[int] = []
        self._weights = bytearray()
        self._offsets: dict[bytes, int] = {}
        self._kernels: dict[str, StepKernel] = {}
        self._by_hash: dict[int, list[str]] = {}

    def tensor(self, size: int) -> Value:
        """Return a new piece of the workspace of `size` bytes."""
        self._tensor_bytes.append(size)
        return Value("workspace", len(self._tensor_bytes) - 1)

    def size_of(self, value: Value) -> int:
        """Return the bytes of a piece of the workspace."""
        return self._tensor_bytes[value.index]

    def constant(self, array: np.ndarray) -> Value:
        """Return read-only data that holds the bytes of an array."""
        data = array.tobytes()
        key = hashlib.sha256(data).digest()
        if key not in self._offsets:
            self._weights.extend(bytes(align(len(self._weights)) - len(self._weights)))
            self._offsets[key] = len(self._weights)
            self._weights.extend(data)
        return Value("weights", self._offsets[key])

    def kernel(self, kernel: StepKernel, name: str) -> str:
        """Return the name of a kernel equal to this one; a new one is `name`, or `name_2`, ..."""
        import tvm_ffi

        key = hash((tvm_ffi.structural_hash(kernel.function), kernel.num_items))
        for known in self._by_hash.get(key, []):
            if _are_equal(self._kernels[known], kernel):
                return known
        unique, number = name, 1
        while unique in self._kernels:
            number += 1
            unique = f"{name}_{number}"
        self._kernels[unique] = kernel
        self._by_hash.setdefault(key, []).append(unique)
        return unique

    def step(
        self, kernel: str, reads: Iterable[Value], writes: Iterable[Value], facts: StepFacts
    ) -> None:
        """Append a call of a kernel."""
        self._steps.append(
            Step(kernel=kernel, reads=tuple(reads), writes=tuple(writes), facts=facts)
        )

    def finished(self, results: Sequence[tuple[Value, int]]) -> StepGraph:
        """Return the graph.

        Args:
            results: For each output of the model where its value is and how many bytes it has.

        Returns:
            The steps, with results written to the outputs directly wherever a kernel makes them.
        """
        direct: dict[Value, Value] = {}
        copies = []
        for index, (result, size) in enumerate(results):
            is_whole = result.place == "workspace" and self._tensor_bytes[result.index] == size
            if is_whole and result not in direct:
                direct[result] = Value("output", index)
            else:
                copies.append(Copy(direct.get(result, result), index, size))
        return StepGraph(
            steps=tuple(_redirect(step, direct) for step in self._steps),
            copies=tuple(copies),
            tensor_bytes=tuple(self._tensor_bytes),
            weights=bytes(self._weights),
            kernels=dict(self._kernels),
        )


def _are_equal(first: StepKernel, second: StepKernel) -> bool:
    import tvm_ffi

    return (
        first.num_items == second.num_items
        and first.scratch_bytes == second.scratch_bytes
        and bool(tvm_ffi.structural_equal(first.function, second.function))
    )


def _redirect(step: Step, places: dict[Value, Value]) -> Step:
    return msgspec.structs.replace(
        step,
        reads=tuple(places.get(value, value) for value in step.reads),
        writes=tuple(places.get(value, value) for value in step.writes),
    )
