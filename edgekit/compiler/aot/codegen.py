"""Write the C side of a model: calls in order, tables that describe it, weights, an example.

The generated files are the ABI of `ek_model.h` and nothing else; `NAME.h` gives an embedding
program the names and sizes of this model at compile time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.compiler.aot.memory_plan import ALIGNMENT, Lifetime, MemoryPlan, plan_memory
from edgekit.compiler.aot.step_graph import Step, StepGraph, Value
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec

ABI = 1
ABI_HEADER = Path(__file__).parents[2] / "devices" / "native" / "include" / "ek_model.h"
_DTYPE_BYTES = {
    "bool": 1,
    **{f"{kind}int{bits}".lstrip("_"): bits // 8 for kind in "u_" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
}


class CModel(msgspec.Struct, frozen=True, kw_only=True):
    """Hold everything the C side is written from.

    Args:
        name: Prefix of every exported symbol, a C identifier.
        inputs: Inputs with every size fixed.
        outputs: Outputs with every size fixed.
        graph: Steps and constants.
        scratch: Bytes of each scratch pointer, by kernel.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    graph: StepGraph
    scratch: dict[str, tuple[int, ...]]


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


def write_headers(model: CModel, plan: MemoryPlan, folder: Path) -> tuple[Path, ...]:
    """Write what an embedding program needs: `ek_model.h`, `NAME.h` and `example_main.c`.

    Raises:
        InputError: The installation lacks the ABI header.
    """
    if not ABI_HEADER.is_file():
        raise InputError(
            "writing the C header of the model",
            found=f"no {ABI_HEADER}",
            hint="Reinstall edgekit: pip install --force-reinstall edgekit",
        )
    files = {
        "ek_model.h": ABI_HEADER.read_text(encoding="utf-8"),
        f"{model.name}.h": _model_h(model, plan),
        "example_main.c": _example_c(model),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in files)


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
    name = model.name
    calls = [
        f"{name}_{step.kernel}({', '.join(_arguments(model, number, step, places))})"
        for number, step in enumerate(model.graph.steps)
    ]
    prototypes = _prototypes(model)
    cases = [f"    case {number}: return {call};" for number, call in enumerate(calls)]
    for number, copy in enumerate(model.graph.copies, start=len(calls)):
        source = _reference(copy.source, places)
        cases.append(
            f"    case {number}: memcpy(outputs[{copy.output}], {source}, {copy.size}); return 0;"
        )
    names = [step.kernel for step in model.graph.steps]
    names += [f"copy_{model.outputs[copy.output].name}" for copy in model.graph.copies]
    step_names = ", ".join(_c_string(step) for step in names) or '""'
    return "\n".join(
        [
            '#include "ek_model.h"',
            "#include <string.h>",
            f"extern const uint8_t {name}_weights[];",
            *prototypes,
            *_tensor_table("inputs", model.inputs),
            *_tensor_table("outputs", model.outputs),
            f"static const char *const step_names[] = {{{step_names}}};",
            "static int step(int32_t i, const void *const *inputs, void *const *outputs,",
            "                void *workspace) {",
            "  uint8_t *const ws = (uint8_t *)workspace;",
            "  (void)inputs; (void)outputs; (void)ws;",
            "  switch (i) {",
            *cases,
            "  }",
            "  return -1;",
            "}",
            f"int {name}_run(const void *const *inputs, void *const *outputs, void *workspace) {{",
            f"  for (int32_t i = 0; i < {len(cases)}; i++) {{",
            "    const int status = step(i, inputs, outputs, workspace);",
            "    if (status) return status;",
            "  }",
            "  return 0;",
            "}",
            f"extern const ek_model_t {name}_model;",
            f"const ek_model_t {name}_model = {{",
            f"  {ABI}, {len(model.inputs)}, {len(model.outputs)}, {len(cases)}, {plan.size}u,",
            f"  inputs_table, outputs_table, step_names, {name}_run, step, NULL,",
            "};",
            "/* Weak: two models linked into one program both carry it. */",
            "__attribute__((weak)) const ek_model_t *ek_model(void) {",
            f"  return &{name}_model;",
            "}",
            "",
        ]
    )


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


def _model_h(model: CModel, plan: MemoryPlan) -> str:
    name = model.name
    upper = name.upper()
    lines = [
        f"/* {name}: sizes in bytes; every pointer must be aligned to {ALIGNMENT} bytes. */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        '#include "ek_model.h"',
        f"#define {upper}_ALIGNMENT {ALIGNMENT}",
        f"#define {upper}_WORKSPACE_BYTES {plan.size}u",
    ]
    for kind, specs in (("INPUT", model.inputs), ("OUTPUT", model.outputs)):
        lines.append(f"#define {upper}_NUM_{kind}S {len(specs)}")
        for index, spec in enumerate(specs):
            shape = "x".join(str(dim) for dim in spec.shape) or "scalar"
            lines.append(
                f"#define {upper}_{kind}_{index}_BYTES {tensor_bytes(spec)}u"
                f" /* {_c_comment(spec.name)}: {spec.dtype} {shape} */"
            )
    lines += [
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        f"extern const ek_model_t {name}_model;",
        "/* Runs the model once; 0 means done. Nothing is allocated, and one workspace serves one",
        "   call at a time. */",
        f"int {name}_run(const void *const *inputs, void *const *outputs, void *workspace);",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _example_c(model: CModel) -> str:
    name, upper = model.name, model.name.upper()
    buffers = []
    for kind, specs in (("input", model.inputs), ("output", model.outputs)):
        for index in range(len(specs)):
            size = f"{upper}_{kind.upper()}_{index}_BYTES"
            buffers.append(f"BUFFER {kind}_{index}[{size}];")
    inputs = ", ".join(f"input_{index}" for index in range(len(model.inputs)))
    outputs = ", ".join(f"output_{index}" for index in range(len(model.outputs)))
    return "\n".join(
        [
            f"/* Runs the model once on zeros: cc example_main.c lib{name}.a -lm */",
            f'#include "{name}.h"',
            "#include <stdio.h>",
            "",
            f"#define BUFFER static _Alignas({upper}_ALIGNMENT) unsigned char",
            *buffers,
            f"BUFFER workspace[{upper}_WORKSPACE_BYTES + 1];",
            "",
            "int main(void) {",
            f"  const void *inputs[] = {{{inputs}}};",
            f"  void *outputs[] = {{{outputs}}};",
            f"  if ({name}_run(inputs, outputs, workspace)) return 1;",
            f"  for (int i = 0; i < {name}_model.num_outputs; i++)",
            f'    printf("%s: %zu bytes\\n", {name}_model.outputs[i].name,',
            f"           {name}_model.outputs[i].bytes);",
            "  return 0;",
            "}",
            "",
        ]
    )


def _c_string(text: str) -> str:
    """Quote a name from an untrusted model; every odd byte becomes an octal escape."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'


def _c_comment(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in text)
