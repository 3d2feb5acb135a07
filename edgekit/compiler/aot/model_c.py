"""Write `model.c`: how each kernel is called, the table of steps, the model's description.

What runs the tables is the same for every model and lies in `compiler/native`.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.compiler.aot.c_model import CModel, KernelCall, tensor_bytes
from edgekit.compiler.aot.memory_plan import MemoryPlan
from edgekit.compiler.aot.step_graph import Copy, Step, Value
from edgekit.core.model import TensorSpec

ABI = 1

Places = dict[tuple[str, int], int]
"""Offsets in the workspace: of ("tensor", index) and of ("scratch", number of the step)."""

_KINDS = {
    "input": "PLACE_INPUT",
    "output": "PLACE_OUTPUT",
    "weights": "PLACE_WEIGHTS",
    "workspace": "PLACE_WORKSPACE",
}


def model_c(model: CModel, plan: MemoryPlan, places: Places) -> str:
    """Return the text of `model.c`.

    Args:
        model: What to write.
        plan: Of the workspace.
        places: Where its buffers lie.
    """
    name, graph = model.name, model.graph
    names = [facts.name for facts in model.step_facts()]
    num_arguments = [len(step.reads) + len(step.writes) for step in graph.steps]
    return "\n".join(
        [
            f"#define EK_MAX_THREADS {model.max_threads}",
            '#include "ek_model.h"',
            '#include "ek_steps.h"',
            "#include <string.h>",
            f"extern const uint8_t {name}_weights[];",
            f"enum {{ NUM_STEPS = {len(names)}, MAX_ARGUMENTS = {max([*num_arguments, 2])} }};",
            *(line for kernel in sorted(model.calls) for line in _call(model, kernel)),
            *(line for copy in graph.copies for line in _copy_call(copy)),
            *_step_table(model, places),
            *_tensor_table("inputs", model.inputs),
            *_tensor_table("outputs", model.outputs),
            "static const char *const step_names[] = {",
            *(f"  {_c_string(text)}," for text in names or [""]),
            "};",
            f"extern const ek_model_t {name}_model;",
            *_FUNCTIONS.replace("NAME", name).splitlines(),
            f"const ek_model_t {name}_model = {{",
            f"  {ABI}, {len(model.inputs)}, {len(model.outputs)}, NUM_STEPS, {plan.size}u,",
            f"  inputs_table, outputs_table, step_names, {name}_run, step, pool_resize,",
            "};",
            "",
        ]
    )


_FUNCTIONS = """\
static int run_steps(int32_t first, int32_t last, const void *const *inputs, void *const *outputs,
                     void *workspace) {
  const buffers_t buffers = {inputs, outputs, workspace};
  void *arguments[MAX_ARGUMENTS];
  pool_check_owner();
  for (int32_t i = first; i < last; i++) {
    const int status = steps_call(&steps[i], places, NAME_weights, &buffers, arguments);
    if (status) return status;
  }
  return 0;
}
static int step(int32_t i, const void *const *inputs, void *const *outputs, void *workspace) {
  if (i < 0 || i >= NUM_STEPS) return -1;
  return run_steps(i, i + 1, inputs, outputs, workspace);
}
int NAME_run(const void *const *inputs, void *const *outputs, void *workspace) {
  return run_steps(0, NUM_STEPS, inputs, outputs, workspace);
}
/* Weak: two models linked into one program both carry it. */
__attribute__((weak)) const ek_model_t *ek_model(void) { return &NAME_model; }
"""


def _call(model: CModel, kernel: str) -> list[str]:
    """Write the prototype of a kernel and a function that calls it with a list of pointers."""
    call = model.calls[kernel]
    types = ["void *"] * call.num_buffers
    values = [f"a[{number}]" for number in range(call.num_buffers)]
    offsets = [f"s + {offset}" for offset in call.scratch_offsets[:-1]]
    if call.own_scratch:
        types, values = [*types, "void *"], [*values, offsets.pop(0)]
    if call.num_items:
        types, values = [*types, "int32_t", "int32_t"], [*values, "begin", "end"]
    types, values = types + ["void *"] * len(offsets), values + offsets
    symbol = f"{model.name}_{kernel}"
    return [
        f"int {symbol}({', '.join(types)});",
        f"static int call_{kernel}(void *const *a, uint8_t *s, int32_t begin, int32_t end) {{",
        "  (void)s, (void)begin, (void)end;",
        f"  return {symbol}({', '.join(values)});",
        "}",
    ]


def _copy_call(copy: Copy) -> list[str]:
    return [
        f"static int copy_{copy.output}(void *const *a, uint8_t *s, int32_t begin, int32_t end) {{",
        "  (void)s, (void)begin, (void)end;",
        f"  memcpy(a[1], a[0], {copy.size});",
        "  return 0;",
        "}",
    ]


def _step_table(model: CModel, places: Places) -> list[str]:
    operands: list[str] = []
    rows = []
    for number, step in enumerate(model.graph.steps):
        rows.append(_step_row(model.calls[step.kernel], step, len(operands), places, number))
        operands += [_place(value, places) for value in (*step.reads, *step.writes)]
    for copy in model.graph.copies:
        rows.append(f"  {{copy_{copy.output}, {len(operands)}, 2, 1, 0, 0}},")
        operands += [_place(copy.source, places), _place(Value("output", copy.output), places)]
    return [
        "static const place_t places[] = {",
        *(f"  {operand}," for operand in operands or ["{0}"]),
        "};",
        "static const step_t steps[] = {",
        *(rows or ["  {0},"]),
        "};",
    ]


def _step_row(call: KernelCall, step: Step, first: int, places: Places, number: int) -> str:
    num_arguments = len(step.reads) + len(step.writes)
    scratch = places.get(("scratch", number), 0)
    return (
        f"  {{call_{step.kernel}, {first}, {num_arguments}, {max(call.num_items, 1)}, "
        f"{scratch}u, {call.scratch_bytes}u}},"
    )


def _place(value: Value, places: Places) -> str:
    index = places["tensor", value.index] if value.place == "workspace" else value.index
    return f"{{{_KINDS[value.place]}, {index}u}}"


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


def _c_string(text: str) -> str:
    """Quote a name from an untrusted model; every odd byte becomes an octal escape."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{"".join(plain)}"'
