"""The whole way from an ONNX file to a C library, phase by phase.

Runs inside the child process: every phase, pass and operator is announced before it starts, so
that whatever ends the process has a name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.compiler.accounting import OperatorCount, count_operators
from edgekit.compiler.aot.c_headers import write_headers
from edgekit.compiler.aot.c_model import CModel, check_name
from edgekit.compiler.aot.codegen import write_sources
from edgekit.compiler.aot.fusion import fuse, simplify
from edgekit.compiler.aot.importer import import_onnx
from edgekit.compiler.aot.kernel_schedule import schedule_kernel
from edgekit.compiler.aot.link import link_model
from edgekit.compiler.aot.lowering import LoweredKernels, lower_kernels
from edgekit.compiler.aot.relax_operators import relax_operators
from edgekit.compiler.aot.step_graph import StepGraph, read_steps
from edgekit.compiler.aot.toolchain import Toolchain, toolchain_for
from edgekit.compiler.engine_build import EngineBuild
from edgekit.compiler.onnx_file import has_qdq, input_specs, load_onnx, specialise
from edgekit.core.model import TensorSpec
from edgekit.core.target import Target

if TYPE_CHECKING:
    import onnx
    import tvm

PHASES = ("read", "import", "fuse", "schedule", "lower", "write", "link")


class CompileJob(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to compile; travels to the child process as JSON.

    Args:
        onnx_path: The model.
        out: Folder that receives the finished files.
        target: What to compile for.
        name: Prefix of every symbol.
        static_library: Whether to keep the library for embedding.
        memory_limit_mib: Address space of the child.
    """

    onnx_path: str
    out: str
    target: Target
    name: str = "model"
    static_library: bool = True
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

    toolchain, name = toolchain_for(job.target), job.name
    watch.phase("import")
    imported = import_onnx(model, on_operator=watch.detail)
    watch.phase("fuse")
    llvm_target = tvm.target.Target(toolchain.llvm)
    simplified = simplify(imported.module)
    count = count_operators(*relax_operators(simplified))
    fused = fuse(simplified, llvm_target)
    graph = read_steps(fused)
    watch.phase("schedule")
    kernels = _scheduled(fused, toolchain, watch)
    watch.phase("lower")
    kernels_o = folder / "kernels.o"
    lowered = lower_kernels(kernels, llvm_target, kernels_o, prefix=name, on_kernel=watch.detail)
    watch.phase("write")
    c_model = CModel(
        name=name,
        inputs=_fixed(input_specs(model)),
        outputs=_outputs([info.name for info in model.graph.output], fused),
        graph=graph,
        scratch=lowered.scratch,
    )
    sources = write_sources(c_model, folder)
    out = Path(job.out)
    headers = write_headers(c_model, sources.plan, out)
    watch.phase("link")
    linked = link_model(sources, kernels_o, out, toolchain, name=name)
    wanted = [linked.shared, linked.static if job.static_library or not linked.shared else None]
    libraries = [Path(shutil.copy(path, out)) for path in wanted if path is not None]
    return EngineBuild(
        engine="tvm",
        files=tuple(sorted(path.name for path in (*headers, *libraries))),
        library=libraries[0].name,
        inputs=c_model.inputs,
        outputs=c_model.outputs,
        integer_ops=count.integer_ops,
        float_ops=count.float_ops,
        num_kernels=len(kernels),
        workspace_bytes=sources.plan.size,
        weights_bytes=len(graph.weights),
        disqualified=count.disqualification() if has_qdq(model) else None,
        details=_details(toolchain, graph, lowered, count, sources.plan.lower_bound)
        | {"constants_folded_by_onnxruntime": imported.is_folded},
    )


def _scheduled(
    module: tvm.IRModule, toolchain: Toolchain, watch: Watch
) -> dict[str, tvm.tirx.PrimFunc]:
    import tvm

    scheduled = {}
    functions = {
        str(variable.name_hint): function
        for variable, function in module.functions.items()
        if isinstance(function, tvm.tirx.PrimFunc)
    }
    for kernel in sorted(functions):
        watch.detail(f"kernel '{kernel}'")
        scheduled[kernel] = schedule_kernel(
            functions[kernel], lanes=toolchain.lanes, num_registers=toolchain.num_registers
        )
    watch.detail("")
    return scheduled


def _fixed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec.name, spec.dtype, spec.batched(1)) for spec in specs)


def _outputs(names: list[str], module: tvm.IRModule) -> tuple[TensorSpec, ...]:
    """Take names from ONNX and shapes and types from what the kernels really write."""
    kind = module["main"].body.body.ty
    kinds = getattr(kind, "fields", None) or [kind]
    return tuple(
        TensorSpec(name, str(kind.dtype.dtype), tuple(int(dim) for dim in kind.shape))
        for name, kind in zip(names, kinds, strict=True)
    )


def _details(
    toolchain: Toolchain,
    graph: StepGraph,
    lowered: LoweredKernels,
    count: OperatorCount,
    lower_bound: int,
) -> dict[str, Any]:
    return {
        "cpu": toolchain.llvm["mcpu"],
        "triple": toolchain.llvm["mtriple"],
        "linked_for": toolchain.zig,
        "num_steps": len(graph.steps) + len(graph.copies),
        "undefined_symbols": list(lowered.undefined),
        "workspace_lower_bound": lower_bound,
        "float_as_quantized": list(count.float_as_quantized),
    }
