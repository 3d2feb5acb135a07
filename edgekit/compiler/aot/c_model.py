"""What the C side of a model is written from."""

from __future__ import annotations

import itertools

import msgspec

from edgekit.compiler.aot.lowering import LoweredKernels
from edgekit.compiler.aot.memory_plan import align
from edgekit.compiler.aot.step_graph import StepGraph
from edgekit.compiler.engine_build import StepFacts
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec

_DTYPE_BYTES = {
    "bool": 1,
    **{f"{kind}int{bits}".lstrip("_"): bits // 8 for kind in "u_" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
}


class KernelCall(msgspec.Struct, frozen=True, kw_only=True):
    """Say how C calls a kernel: buffers, own scratch, begin and end, further scratch.

    Args:
        num_buffers: Operands, constants and results.
        own_scratch: Bytes of the scratch the kernel declares; 0 without.
        num_items: Size of the range of items; 0 for a kernel without one.
        further_scratch: Bytes of each buffer that lowering moved out of the kernel.
    """

    num_buffers: int
    own_scratch: int
    num_items: int
    further_scratch: tuple[int, ...]

    @property
    def scratch_offsets(self) -> tuple[int, ...]:
        """Return where each piece of scratch begins, then where one thread's scratch ends."""
        sizes = (*((self.own_scratch,) if self.own_scratch else ()), *self.further_scratch)
        return tuple(itertools.accumulate((align(size) for size in sizes), initial=0))

    @property
    def scratch_bytes(self) -> int:
        """Return the scratch of one thread."""
        return self.scratch_offsets[-1]


class CModel(msgspec.Struct, frozen=True, kw_only=True):
    """Hold everything the C side is written from.

    Args:
        name: Prefix of every exported symbol, a C identifier.
        inputs: Inputs with every size fixed.
        outputs: Outputs with every size fixed.
        graph: Steps and constants.
        calls: How each kernel is called.
        max_threads: Threads the workspace has scratch for.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    graph: StepGraph
    calls: dict[str, KernelCall]
    max_threads: int

    def step_facts(self) -> tuple[StepFacts, ...]:
        """Return what each step of the library is, copies to outputs included."""
        steps = tuple(step.facts for step in self.graph.steps)
        names = (self.outputs[copy.output].name for copy in self.graph.copies)
        return steps + tuple(StepFacts(name=f"copy to {name}", kind="copy") for name in names)

    def scratch_of(self, kernel: str) -> int:
        """Return the bytes of scratch a step with this kernel needs, all threads together."""
        call = self.calls[kernel]
        return call.scratch_bytes * (self.max_threads if call.num_items > 1 else 1)


def kernel_calls(graph: StepGraph, lowered: LoweredKernels) -> dict[str, KernelCall]:
    """Return how each kernel of a graph is called."""
    calls = {}
    for step in graph.steps:
        kernel = graph.kernels[step.kernel]
        calls[step.kernel] = KernelCall(
            num_buffers=len(step.reads) + len(step.writes),
            own_scratch=kernel.scratch_bytes,
            num_items=kernel.num_items or lowered.num_items.get(step.kernel, 0),
            further_scratch=lowered.scratch[step.kernel],
        )
    return calls


def tensor_bytes(spec: TensorSpec) -> int:
    """Return the size in bytes of a tensor whose sizes are all known."""
    total = _DTYPE_BYTES[spec.dtype]
    for dim in spec.shape:
        assert dim is not None, spec
        total *= dim
    return total


def check_name(name: str) -> str:
    """Return `name` when C accepts it as the start of a symbol.

    Raises:
        InputError: It is no C identifier, or belongs to the ABI.
    """
    if not name.isascii() or not name.isidentifier() or name.startswith("ek_"):
        raise InputError(
            "naming the compiled model",
            found=f"'{name}'",
            expected="letters, digits and underscores, not starting with a digit or ek_",
        )
    return name
