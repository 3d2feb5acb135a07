"""Write what a program that embeds a model needs: headers and an example.

`NAME.h` gives names and sizes at compile time; everything else about the model is in the library.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.compiler.aot.c_model import CModel, tensor_bytes
from edgekit.compiler.aot.memory_plan import ALIGNMENT, MemoryPlan
from edgekit.core.errors import InputError

ABI_HEADER = Path(__file__).parents[2] / "devices" / "native" / "include" / "ek_model.h"


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
            f"/* Runs the model once on zeros: cc example_main.c lib{name}.a -lm -lpthread */",
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


def _c_comment(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in text)
