"""The whole way from an ONNX file to a C library, phase by phase.

Runs inside the child process: every phase, pass and operator is announced before it starts, so
that whatever ends the process has a name.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.compiler.aot.c_headers import write_headers
from edgekit.compiler.aot.c_model import CModel, check_name, kernel_calls
from edgekit.compiler.aot.codegen import write_sources
from edgekit.compiler.aot.link import link_model
from edgekit.compiler.aot.lowering import LoweredKernels, lower_kernels
from edgekit.compiler.aot.step_graph import Step, StepGraph
from edgekit.compiler.aot.toolchain import Toolchain, toolchain_for
from edgekit.compiler.engine_build import EngineBuild
from edgekit.compiler.onnx_file import has_qdq, input_specs, load_onnx, specialise
from edgekit.compiler.plan.algorithm import AlgorithmOptions, WinogradChoice
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.core.target import Target

if TYPE_CHECKING:
    import onnx

    from edgekit.compiler.graph.operators import Network
    from edgekit.compiler.plan.network_plan import NetworkPlan

PHASES = ("read", "import", "plan", "lower", "write", "link")


class CompileJob(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to compile; travels to the child process as JSON.

    Args:
        onnx_path: The model.
        out: Folder that receives the finished files.
        target: What to compile for.
        name: Prefix of every symbol.
        static_library: Whether to keep the library for embedding.
        static_program: Whether to make the model a program of its own as well.
        max_threads: Threads the library can use.
        winograd: Whether float convolutions may trade size for speed.
        size_limit_mib: What the library may take when `winograd` is `auto`.
        memory_limit_mib: Address space of the child.
    """

    onnx_path: str
    out: str
    target: Target
    name: str = "model"
    static_library: bool = True
    static_program: bool = False
    max_threads: int = 8
    winograd: WinogradChoice = "auto"
    size_limit_mib: float | None = None
    tile_candidate: int = 0
    memory_limit_mib: int = 8192


class Watch(msgspec.Struct, frozen=True):
    """Be told what is about to happen.

    Args:
        phase: Called with one of `PHASES`.
        detail: Called with an operator, a kernel or a pass; empty when it is over.
    """

    phase: Callable[[str], None]
    detail: Callable[[str], None]


def read_model(job: CompileJob, watch: Watch) -> onnx.ModelProto:
    """Read, check and specialise the model of a job; needs no TVM yet.

    Raises:
        InputError: The name, the model or the target is refused.
    """
    watch.phase("read")
    check_name(job.name)
    toolchain_for(job.target)
    return specialise(load_onnx(Path(job.onnx_path)))


def build_library(
    job: CompileJob, model: onnx.ModelProto, folder: Path, watch: Watch
) -> EngineBuild:
    """Compile a model to a C library.

    Args:
        job: What to compile.
        model: From `read_model`.
        folder: Existing empty folder for everything between.
        watch: Told of every phase.

    Returns:
        What was built; the files are in `job.out`, without `engine.json`.

    Raises:
        InputError: The model or the target cannot be compiled.
        StageError: A promise about the result is broken.
    """
    import tvm

    from edgekit.compiler.graph.accounting import count_network, region_operators
    from edgekit.compiler.graph.frontend import read_network
    from edgekit.compiler.plan.network_plan import plan_network

    toolchain, name = toolchain_for(job.target), job.name
    watch.phase("import")
    network = read_network(model)
    watch.phase("plan")
    planned = plan_network(
        network,
        job.target,
        toolchain,
        _options(job),
        watch.detail,
        tile_candidate=job.tile_candidate,
    )
    graph = planned.graph
    _check_memory(graph, job.target)
    watch.phase("lower")
    lowered = lower_kernels(
        {kernel: held.function for kernel, held in graph.kernels.items()},
        tvm.target.Target(toolchain.llvm),
        folder,
        prefix=name,
        on_kernel=watch.detail,
    )
    watch.phase("write")
    c_model = CModel(
        name=name,
        inputs=_fixed(input_specs(model)),
        outputs=_outputs(network),
        graph=graph,
        calls=kernel_calls(graph, lowered),
        max_threads=job.max_threads,
    )
    sources = write_sources(c_model, folder)
    out = Path(job.out)
    headers = write_headers(c_model, sources.plan, out)
    watch.phase("link")
    linked = link_model(
        sources,
        lowered.objects,
        out,
        toolchain,
        name=name,
        num_tensors=len(c_model.inputs) + len(c_model.outputs),
        program=job.static_program,
    )
    static = linked.static if job.static_library or not linked.shared else None
    made = [path for path in (linked.shared, static, linked.program) if path is not None]
    libraries = [Path(shutil.copy(path, out)) for path in made]
    count = count_network(planned.network, model)
    return EngineBuild(
        engine="tvm",
        files=tuple(sorted(path.name for path in (*headers, *libraries))),
        library=libraries[0].name,
        inputs=c_model.inputs,
        outputs=c_model.outputs,
        integer_ops=count.integer_ops,
        float_ops=count.float_ops,
        num_kernels=len(graph.kernels),
        workspace_bytes=sources.plan.size,
        weights_bytes=len(graph.weights),
        disqualified=count.disqualification() if has_qdq(model) else None,
        steps=c_model.step_facts(),
        notes=tuple(_notes(planned, region_operators(network))),
        details={
            **_details(toolchain, graph, lowered),
            "workspace_lower_bound": sources.plan.lower_bound,
            "float_as_quantized": list(count.float_as_quantized),
            "operators_left_to_tvm": list(region_operators(network)),
            "winograd": planned.winograd,
        },
    )


def _check_memory(graph: StepGraph, target: Target) -> None:
    """Refuse a model whose weights and dearest step alone are more than the device has."""
    limit = target.memory_mib
    if limit is None or not graph.steps:
        return
    sizes = {step.facts.name: _workspace_bytes(graph, step) for step in graph.steps}
    dearest = max(sizes, key=lambda name: sizes[name])
    needed = (len(graph.weights) + sizes[dearest]) / 2**20
    if needed > limit:
        raise InputError(
            f"compiling operator '{dearest}' for target '{target.name}'",
            found=f"{needed:.0f} MiB for it and all weights",
            expected=f"at most {limit} MiB, the memory of the device",
            hint="Use a smaller model or smaller inputs",
        )


def _workspace_bytes(graph: StepGraph, step: Step) -> int:
    values = {value for value in (*step.reads, *step.writes) if value.place == "workspace"}
    return sum(graph.tensor_bytes[value.index] for value in values)


def _options(job: CompileJob) -> AlgorithmOptions:
    limit = job.size_limit_mib
    return AlgorithmOptions(
        winograd=job.winograd, size_bytes=None if limit is None else int(limit * 2**20)
    )


def _fixed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec.name, spec.dtype, spec.batched(1)) for spec in specs)


def _outputs(network: Network) -> tuple[TensorSpec, ...]:
    tensors = [network.tensors[name] for name in network.outputs]
    return tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)


def _notes(planned: NetworkPlan, left_to_tvm: Sequence[str]) -> Iterator[str]:
    if planned.winograd:
        size = len(planned.graph.weights)
        yield (
            f"{len(planned.winograd)} convolutions by Winograd: weights of {size / 2**20:.1f} MiB "
            f"instead of {(size - planned.winograd_bytes) / 2**20:.1f} MiB"
        )
    if left_to_tvm:
        counts = Counter(left_to_tvm)
        named = ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items()))
        yield f"{len(left_to_tvm)} operators run as TVM itself compiles them: {named}"


def _details(toolchain: Toolchain, graph: StepGraph, lowered: LoweredKernels) -> dict[str, Any]:
    return {
        "cpu": toolchain.llvm["mcpu"],
        "triple": toolchain.llvm["mtriple"],
        "linked_for": toolchain.zig,
        "num_steps": len(graph.steps) + len(graph.copies),
        "undefined_symbols": list(lowered.undefined),
    }
