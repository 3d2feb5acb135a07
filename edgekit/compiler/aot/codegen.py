"""Write the sources of a model's C library: tables, weights, and which names it shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from edgekit.compiler.aot.c_model import CModel
from edgekit.compiler.aot.memory_plan import ALIGNMENT, Lifetime, MemoryPlan, plan_memory
from edgekit.compiler.aot.model_c import Places, model_c
from edgekit.compiler.aot.step_graph import Value

NATIVE = Path(__file__).parents[1] / "native"
"""The part of every library that is the same: threads, steps, the entry for TVM's runtime."""


class CSources(msgspec.Struct, frozen=True, kw_only=True):
    """Name what was written and what it costs.

    Args:
        model_c: Tables and calls.
        weights_s: Assembly that includes the weights.
        exports: Version script: the only names the library shows.
        plan: Where the workspace's buffers lie.
    """

    model_c: Path
    weights_s: Path
    exports: Path
    plan: MemoryPlan


def exported_names(name: str) -> frozenset[str]:
    """Return the names a library of this model shows, and no others."""
    own = {f"{name}_run", f"{name}_model", "ek_model"}
    return frozenset({*own, f"__tvm_ffi_{name}_run", "__TVMFFIErrorSetRaisedFromCStr"})


def write_sources(model: CModel, folder: Path) -> CSources:
    """Write `model.c`, the files it includes, `weights.S`, `weights.bin` and `exports.map`.

    Args:
        model: What to write.
        folder: Existing folder.

    Returns:
        The files and the memory plan.
    """
    plan, places = _plan(model)
    weights = model.graph.weights or bytes(ALIGNMENT)
    (folder / "weights.bin").write_bytes(weights)
    for source in sorted(NATIVE.iterdir()):
        shutil.copy(source, folder)
    source_c, weights_s, exports = (
        folder / name for name in ("model.c", "weights.S", "exports.map")
    )
    source_c.write_text(model_c(model, plan, places), encoding="ascii")
    weights_s.write_text(_weights_s(model.name), encoding="ascii")
    shown = "; ".join(sorted(exported_names(model.name)))
    exports.write_text(f"{{ global: {shown}; local: *; }};\n", encoding="ascii")
    return CSources(model_c=source_c, weights_s=weights_s, exports=exports, plan=plan)


def _plan(model: CModel) -> tuple[MemoryPlan, Places]:
    lifetimes: dict[tuple[str, int], Lifetime] = {}
    graph = model.graph
    for number, step in enumerate(graph.steps):
        for value in (*step.writes, *step.reads):
            if value.place == "workspace":
                _extend(lifetimes, value, number, graph.tensor_bytes[value.index])
        scratch = model.scratch_of(step.kernel)
        if scratch:
            lifetimes["scratch", number] = Lifetime(first=number, last=number, size=scratch)
    for copy in graph.copies:
        if copy.source.place == "workspace":
            size = graph.tensor_bytes[copy.source.index]
            _extend(lifetimes, copy.source, len(graph.steps), size)
    plan = plan_memory(list(lifetimes.values()))
    return plan, dict(zip(lifetimes, plan.offsets, strict=True))


def _extend(lifetimes: dict[tuple[str, int], Lifetime], value: Value, step: int, size: int) -> None:
    known = lifetimes.get(("tensor", value.index))
    first = known.first if known else step
    lifetimes["tensor", value.index] = Lifetime(first=first, last=step, size=size)


def _weights_s(name: str) -> str:
    # .incbin: the assembler copies megabytes without parsing them, and the linker puts them into
    # .rodata, which the device maps instead of loading.
    return (
        '.section .rodata,"a"\n'
        f".balign {ALIGNMENT}\n"
        f".globl {name}_weights\n.hidden {name}_weights\n{name}_weights:\n"
        '.incbin "weights.bin"\n'
        '.section .note.GNU-stack,"",%progbits\n'
    )
