"""Write the C side of a model: calls in order, tables that describe it, weights.

The library shows the ABI of `ek_model.h` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.compiler.aot.c_model import CModel, tensor_bytes
from edgekit.compiler.aot.memory_plan import ALIGNMENT, Lifetime, MemoryPlan, plan_memory
from edgekit.compiler.aot.step_graph import Step, Value
from edgekit.core.model import TensorSpec

ABI = 1


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


def write_sources(model: CModel, folder: Path) -> CSources:
    """Write `model.c`, `weights.S`, `weights.bin` and `exports.map`.

    Args:
        model: What to write.
        folder: Existing folder.

    Returns:
        The files and the memory plan.
    """
    plan, places = _plan(model)
    weights = model.graph.weights or bytes(ALIGNMENT)
    (folder / "weights.bin").write_bytes(weights)
    model_c, weights_s, exports = (
        folder / name for name in ("model.c", "weights.S", "exports.map")
    )
    model_c.write_text(_model_c(model, plan, places), encoding="ascii")
    weights_s.write_text(_weights_s(model.name), encoding="ascii")
    exports.write_text(
        f"{{ global: {model.name}_run; {model.name}_model; ek_model; local: *; }};\n",
        encoding="ascii",
    )
    return CSources(model_c=model_c, weights_s=weights_s, exports=exports, plan=plan)


# A buffer is a workspace tensor, or scratch number j of step i.
_Places = dict[tuple[str, int, int], int]


def _plan(model: CModel) -> tuple[MemoryPlan, _Places]:
    lifetimes: dict[tuple[str, int, int], Lifetime] = {}
    graph = model.graph
    for number, step in enumerate(graph.steps):
        for value in (*step.writes, *step.reads):
            if value.place == "workspace":
                key = ("tensor", value.index, 0)
                first = lifetimes[key].first if key in lifetimes else number
                size = graph.tensor_bytes[value.index]
                lifetimes[key] = Lifetime(first=first, last=number, size=size)
        for index, size in enumerate(model.scratch.get(step.kernel, ())):
            lifetimes["scratch", number, index] = Lifetime(first=number, last=number, size=size)
    plan = plan_memory(list(lifetimes.values()))
    return plan, dict(zip(lifetimes, plan.offsets, strict=True))


def _model_c(model: CModel, plan: MemoryPlan, places: _Places) -> str:
    name, graph = model.name, model.graph
    names = [step.kernel for step in graph.steps]
    names += [f"copy_{model.outputs[copy.output].name}" for copy in graph.copies]
    step_names = ", ".join(_c_string(step) for step in names)
    return "\n".join(
        [
            '#include "ek_model.h"',
            "#include <string.h>",
            f"extern const uint8_t {name}_weights[];",
            *_prototypes(model),
            *_tensor_table("inputs", model.inputs),
            *_tensor_table("outputs", model.outputs),
            f"static const char *const step_names[] = {{{step_names}}};",
            *_step_function(model, places),
            *_run_function(name, len(names)),
            f"extern const ek_model_t {name}_model;",
            f"const ek_model_t {name}_model = {{",
            f"  {ABI}, {len(model.inputs)}, {len(model.outputs)}, {len(names)}, {plan.size}u,",
            f"  inputs_table, outputs_table, step_names, {name}_run, step, NULL,",
            "};",
            "/* Weak: two models linked into one program both carry it. */",
            "__attribute__((weak)) const ek_model_t *ek_model(void) {",
            f"  return &{name}_model;",
            "}",
            "",
        ]
    )


def _step_function(model: CModel, places: _Places) -> list[str]:
    cases = [
        f"{model.name}_{step.kernel}({', '.join(_arguments(model, number, step, places))})"
        for number, step in enumerate(model.graph.steps)
    ]
    cases += [
        f"memcpy(outputs[{copy.output}], {_reference(copy.source, places)}, {copy.size}), 0"
        for copy in model.graph.copies
    ]
    return [
        "static int step(int32_t i, const void *const *inputs, void *const *outputs,",
        "                void *workspace) {",
        "  uint8_t *const ws = (uint8_t *)workspace;",
        "  (void)inputs; (void)outputs; (void)ws;",
        "  switch (i) {",
        *(f"    case {number}: return {case};" for number, case in enumerate(cases)),
        "  }",
        "  return -1;",
        "}",
    ]


def _run_function(name: str, num_steps: int) -> list[str]:
    return [
        f"int {name}_run(const void *const *inputs, void *const *outputs, void *workspace) {{",
        f"  for (int32_t i = 0; i < {num_steps}; i++) {{",
        "    const int status = step(i, inputs, outputs, workspace);",
        "    if (status) return status;",
        "  }",
        "  return 0;",
        "}",
    ]


def _arguments(model: CModel, number: int, step: Step, places: _Places) -> list[str]:
    values = [_reference(value, places) for value in (*step.reads, *step.writes)]
    num_scratch = len(model.scratch.get(step.kernel, ()))
    return values + [f"ws + {places['scratch', number, index]}" for index in range(num_scratch)]


def _reference(value: Value, places: _Places) -> str:
    if value.place == "input":
        # Kernels take plain pointers: which of them they only read is known here, not to C.
        return f"(void *)inputs[{value.index}]"
    if value.place == "output":
        return f"outputs[{value.index}]"
    if value.place == "weights":
        return f"(void *)(WEIGHTS + {value.index})"
    return f"ws + {places['tensor', value.index, 0]}"


def _prototypes(model: CModel) -> list[str]:
    lines = [f"#define WEIGHTS {model.name}_weights"]
    counts = {
        step.kernel: len(step.reads) + len(step.writes) + len(model.scratch.get(step.kernel, ()))
        for step in model.graph.steps
    }
    for kernel, count in sorted(counts.items()):
        lines.append(f"int {model.name}_{kernel}({', '.join(['void *'] * count)});")
    return lines


def _tensor_table(kind: str, specs: Sequence[TensorSpec]) -> list[str]:
    lines = []
    rows = []
    for index, spec in enumerate(specs):
        dims = ", ".join(str(dim) for dim in spec.shape) or "1"
        lines.append(f"static const int64_t {kind}_shape_{index}[] = {{{dims}}};")
        rows.append(
            f"  {{{_c_string(spec.name)}, {_c_string(spec.dtype)}, {len(spec.shape)}, "
            f"{kind}_shape_{index}, {tensor_bytes(spec)}u}},"
        )
    return [*lines, f"static const ek_tensor_t {kind}_table[] = {{", *rows, "};"]


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


def _c_string(text: str) -> str:
    """Quote a name from an untrusted model; every odd byte becomes an octal escape."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
