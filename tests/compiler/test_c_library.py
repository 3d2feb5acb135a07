from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from edgekit.compiler.aot.codegen import exported_names
from edgekit.compiler.aot.elf import read_elf
from edgekit.compiler.build_library import CompileJob, Watch, build_library, read_model
from edgekit.compiler.engine_build import EngineBuild
from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.reference import run_network
from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.session import open_session, run_session
from edgekit.core.errors import InputError
from edgekit.core.target import Cpu, Os, Target, host_cpu, load_target
from tests.compiler import onnx_models
from tests.compiler.c_library import CLibrary

HOST = Target(name="host", cpu=host_cpu(), os=Os(triple="x86_64-linux-gnu", glibc="2.28"))
if HOST.cpu.isa == "aarch64":
    HOST = Target(name="host", cpu=host_cpu(), os=Os(triple="aarch64-linux-gnu", glibc="2.28"))
PI = Cpu(isa="aarch64", core="cortex-a72", features=("neon",))
OTHERS = {
    "rpi4": Target(name="rpi4", cpu=PI, os=Os(triple="aarch64-linux-gnu", glibc="2.28")),
    "armv7": Target(
        name="armv7",
        cpu=Cpu(isa="armv7", core="cortex-a7"),
        os=Os(triple="armv7-linux-gnueabihf", glibc="2.28"),
    ),
    "android": Target(
        name="android", cpu=PI, os=Os(triple="aarch64-unknown-linux-android", api_level=24)
    ),
    "x86-64-v4": Target(
        name="x86-64-v4",
        cpu=Cpu(isa="x86_64", core="cascadelake", features=("avx512f", "avx512vnni")),
        os=Os(triple="x86_64-linux-gnu", glibc="2.28"),
    ),
}
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "residual": onnx_models.residual_cnn,
    "depthwise": onnx_models.depthwise_cnn,
    "mlp": onnx_models.mlp,
    "two": onnx_models.two_in_two_out,
    "transformer": onnx_models.transformer,
    "pads": onnx_models.computed_pads,
    "int8": lambda: onnx_models.quantized(onnx_models.residual_cnn(), (1, 1, 14, 14)),
}
# As a share of the largest output: sums of a few hundred float32 products in another order.
FP32_TOLERANCE = 1e-4


def compile_to(
    folder: Path,
    model: onnx.ModelProto,
    target: Target = HOST,
    *,
    name: str = "model",
    max_threads: int = 8,
) -> EngineBuild:
    work, out = folder / "work", folder / "out"
    work.mkdir(parents=True)
    out.mkdir()
    onnx.save(model, folder / "model.onnx")
    job = CompileJob(
        onnx_path=str(folder / "model.onnx"),
        out=str(out),
        target=target,
        name=name,
        max_threads=max_threads,
    )
    watch = Watch(phase=lambda _: None, detail=lambda _: None)
    return build_library(job, read_model(job, watch), work, watch)


def example_inputs(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    inputs = {}
    for item in model.graph.input:
        shape = [dim.dim_value or 1 for dim in item.type.tensor_type.shape.dim]
        if item.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            # Token ids below the vocabulary; as a mask: some ones, some zeros.
            inputs[item.name] = rng.integers(0, 2, shape)
        else:
            inputs[item.name] = rng.standard_normal(shape).astype(np.float32)
    return inputs


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, EngineBuild]]:
    done: dict[str, tuple[Path, EngineBuild]] = {}

    def build(name: str) -> tuple[Path, EngineBuild]:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            done[name] = folder, compile_to(folder, MODELS[name]())
        return done[name]

    return build


@pytest.mark.parametrize("name", ["residual", "depthwise", "mlp", "two", "transformer", "pads"])
def test_library_agrees_with_onnxruntime(
    name: str, built: Callable[[str], tuple[Path, EngineBuild]]
) -> None:
    folder, _ = built(name)
    model = MODELS[name]()
    inputs = example_inputs(model)
    expected = run_session(open_session(model, optimization="off"), inputs)
    actual = CLibrary(folder / "out" / "libmodel.so").run(inputs)
    assert set(actual) == set(expected)
    for output, array in expected.items():
        tolerance = FP32_TOLERANCE * np.abs(array).max()
        np.testing.assert_allclose(actual[output], array, rtol=0, atol=tolerance)


def test_int8_model_equals_the_numpy_reference_bit_for_bit(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    folder, _ = built("int8")
    model = MODELS["int8"]()
    inputs = example_inputs(model)
    expected = run_network(read_network(specialise(model)), inputs)
    actual = CLibrary(folder / "out" / "libmodel.so").run(inputs)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def test_int8_model_runs_on_integers(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    _, build = built("int8")
    assert build.disqualified is None
    # Five convolutions, two additions, one average, one dense layer.
    assert (build.integer_ops, build.float_ops) == (9, 0)
    assert build.details["operators_left_to_tvm"] == []


def test_steps_name_the_nodes_they_stand_for(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    folder, build = built("residual")
    names = CLibrary(folder / "out" / "libmodel.so").step_names()
    assert [step.name for step in build.steps] == names
    nodes = [node for step in build.steps for node in step.nodes]
    given = [node.name for node in MODELS["residual"]().graph.node if node.op_type != "Flatten"]
    assert set(given) <= set(nodes)


def test_fp32_model_is_never_disqualified(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    _, build = built("residual")
    assert build.disqualified is None
    assert build.integer_ops == 0
    assert build.float_ops == 9


def test_result_does_not_depend_on_what_the_workspace_held(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    folder, _ = built("residual")
    library = CLibrary(folder / "out" / "libmodel.so")
    inputs = example_inputs(MODELS["residual"]())
    (clean,) = library.run(inputs, fill=0).values()
    (dirty,) = library.run(inputs, fill=255).values()
    np.testing.assert_array_equal(clean, dirty)


def test_steps_one_by_one_equal_a_run(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    folder, build = built("two")
    library = CLibrary(folder / "out" / "libmodel.so")
    inputs = example_inputs(MODELS["two"]())
    whole, parts = library.run(inputs), library.run(inputs, by_step=True)
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array)
    assert len(library.step_names()) == build.details["num_steps"]


def test_tables_in_the_library_say_what_the_build_says(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    folder, build = built("transformer")
    library = CLibrary(folder / "out" / "libmodel.so")
    assert library.model.abi == 1
    assert library.model.workspace_bytes == build.workspace_bytes
    for kind, specs in (("inputs", build.inputs), ("outputs", build.outputs)):
        assert library.describe(kind) == [(s.name, s.dtype, s.shape) for s in specs]
    assert [spec.shape for spec in build.inputs] == [(1, 8), (1, 8)]


def test_two_models_live_in_one_process(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    first = built("residual")[0] / "out" / "libmodel.so"
    second = built("depthwise")[0] / "out" / "libmodel.so"
    one, two = CLibrary(first), CLibrary(second)
    inputs_one = example_inputs(MODELS["residual"]())
    (before,) = one.run(inputs_one).values()
    two.run(example_inputs(MODELS["depthwise"]()))
    (after,) = one.run(inputs_one).values()
    np.testing.assert_array_equal(before, after)


def test_library_shows_the_abi_and_needs_libc_only(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    folder, build = built("transformer")
    library = read_elf(folder / "out" / "libmodel.so")
    assert library.exported == exported_names("model")
    is_thread_call = re.compile("pthread_(create|join|attr_.*|mutex_.*|cond_.*)|sched_yield|getpid")
    others = {name for name in library.undefined if not is_thread_call.fullmatch(name)}
    assert others <= {"memcpy", "memset", "erff", "expf", "posix_memalign", "free", "strcmp"}
    assert set(library.needed) <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}
    assert set(build.details["undefined_symbols"]) <= {"memcpy", "memset", "erff", "expf"}


def test_workspace_reaches_its_lower_bound(
    built: Callable[[str], tuple[Path, EngineBuild]],
) -> None:
    for name in ("residual", "depthwise", "transformer"):
        _, build = built(name)
        assert build.workspace_bytes == build.details["workspace_lower_bound"]


def test_same_model_gives_same_bytes_in_another_folder(
    built: Callable[[str], tuple[Path, EngineBuild]], tmp_path: Path
) -> None:
    folder, build = built("residual")
    again = compile_to(tmp_path / "some" / "deeper" / "folder", MODELS["residual"]())
    assert again == build
    for name in build.files:
        first = (folder / "out" / name).read_bytes()
        assert (tmp_path / "some" / "deeper" / "folder" / "out" / name).read_bytes() == first
        assert str(folder).encode() not in first


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_cross_compiled_library_is_for_its_machine(name: str, tmp_path: Path) -> None:
    target = OTHERS[name]
    build = compile_to(tmp_path, MODELS["depthwise"](), target)
    library = read_elf(tmp_path / "out" / "libmodel.so")
    assert library.machine == target.cpu.isa
    assert library.exported == exported_names("model")
    if name == "android":
        assert set(library.needed) <= {"libc.so", "libm.so"}
        assert "android" in build.details["triple"]


def test_static_libc_gives_a_static_library_only(tmp_path: Path) -> None:
    target = Target(name="musl", cpu=PI, os=Os(triple="aarch64-linux-musl"))
    build = compile_to(tmp_path, MODELS["mlp"](), target)
    assert build.library == "libmodel.a"
    assert not (tmp_path / "out" / "libmodel.so").exists()


def test_example_program_embeds_two_static_libraries(
    built: Callable[[str], tuple[Path, EngineBuild]], tmp_path: Path
) -> None:
    first = built("mlp")[0] / "out"
    compile_to(tmp_path, MODELS["depthwise"](), name="other")
    second = tmp_path / "out"
    program = tmp_path / "program"
    caller = tmp_path / "caller.c"
    caller.write_text(
        (second / "example_main.c").read_text().replace("int main", "int other_main")
        + '#include "model.h"\n'
        + "int main(void) { return model_model.num_steps < 1 || other_main(); }\n"
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-O1", "-Wall", "-Werror"),
            *(f"-I{second}", f"-I{first}", caller, second / "libother.a", first / "libmodel.a"),
            *("-lm", "-o", program),
        ],
        check=True,
        timeout=120,
    )
    done = subprocess.run([program], check=True, capture_output=True, text=True, timeout=10)
    assert "20 bytes" in done.stdout


# No libc: the first static link against one would build it, which takes zig minutes.
MAIN = """
#include "model.h"
#define BUFFER static _Alignas(MODEL_ALIGNMENT) unsigned char
BUFFER input[MODEL_INPUT_0_BYTES]; BUFFER output[MODEL_OUTPUT_0_BYTES];
BUFFER workspace[MODEL_WORKSPACE_BYTES + 1];
void *memcpy(void *to, const void *from, size_t size) {
  for (size_t i = 0; i < size; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
  return to;
}
void *memset(void *to, int value, size_t size) {
  for (size_t i = 0; i < size; i++) ((volatile char *)to)[i] = (char)value;
  return to;
}
#ifdef __aarch64__
enum { READ = 63, WRITE = 64, EXIT = 93 };
#define CALL "mov x8, %1\\n mov x0, %2\\n mov x1, %3\\n mov x2, %4\\n svc 0\\n mov %0, x0"
#define USED "x0", "x1", "x2", "x8"
#else
enum { READ = 3, WRITE = 4, EXIT = 1 };
#define CALL "mov r7, %1\\n mov r0, %2\\n mov r1, %3\\n mov r2, %4\\n svc 0\\n mov %0, r0"
#define USED "r0", "r1", "r2", "r7"
void __aeabi_unwind_cpp_pr0(void) {}
#endif
static long call(long number, long a, void *b, long c) {
  long result;
  __asm__ volatile(CALL : "=r"(result) : "r"(number), "r"(a), "r"(b), "r"(c) : USED, "memory");
  return result;
}
static int run(void) {
  const void *inputs[] = {input};
  void *outputs[] = {output};
  for (size_t done = 0; done < sizeof input;) {
    const long got = call(READ, 0, input + done, (long)(sizeof input - done));
    if (got <= 0) return 2;
    done += (size_t)got;
  }
  for (size_t i = 0; i < sizeof workspace; i++) workspace[i] = 255;
  if (model_run(inputs, outputs, workspace)) return 3;
  return call(WRITE, 1, output, sizeof output) != sizeof output;
}
void _start(void) { call(EXIT, run(), 0, 0); }
"""


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("isa", "core", "triple", "zig"),
    [
        ("aarch64", "cortex-a72", "aarch64-linux-musl", "aarch64-linux-musl"),
        ("armv7", "cortex-a7", "armv7-linux-musleabihf", "arm-linux-musleabihf"),
    ],
)
@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_arm_code_computes_what_onnxruntime_computes(
    isa: str, core: str, triple: str, zig: str, name: str, tmp_path: Path
) -> None:
    emulator = shutil.which({"aarch64": "qemu-aarch64", "armv7": "qemu-arm"}[isa])
    if emulator is None:
        pytest.skip(f"no emulator for {isa}")
    cpu = Cpu(isa=isa, core=core)  # type: ignore[arg-type]
    target = Target(name="arm", cpu=cpu, os=Os(triple=triple))
    compile_to(tmp_path, MODELS[name](), target, max_threads=1)
    out, program = tmp_path / "out", tmp_path / "program"
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", zig, "-O1", "-static", "-nostdlib"),
            *("-ffreestanding", "-fno-stack-protector", "-marm" if isa == "armv7" else "-fno-pie"),
            *(f"-I{out}", tmp_path / "main.c", out / "libmodel.a", "-o", program),
        ],
        check=True,
        timeout=300,
    )
    inputs = example_inputs(MODELS[name]())
    (sent,) = inputs.values()
    done = subprocess.run(
        [emulator, "-cpu", core, program],
        input=sent.tobytes(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    (expected,) = run_session(open_session(MODELS[name](), optimization="off"), inputs).values()
    actual = np.frombuffer(done.stdout, np.float32).reshape(expected.shape)
    tolerance = FP32_TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def branch() -> onnx.ModelProto:
    b = onnx_models.GraphBuilder()
    largest = b.op("ReduceMax", "x", keepdims=0)
    condition = b.op("Greater", largest, b.constant(np.float32(0)))
    result = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 4])
    branches = {
        f"{name}_branch": onnx.helper.make_graph(
            [onnx.helper.make_node(kind, ["x"], ["z"])], name, [], [result]
        )
        for name, kind in (("then", "Relu"), ("else", "Neg"))
    }
    node = onnx.helper.make_node("If", [condition], ["y"], name="node_branch", **branches)
    b.nodes.append(node)
    return b.model({"x": [1, 4]}, {"y": [1, 4]})


def test_operator_that_needs_a_runtime_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"operator 'node_branch' \(If\)"):
        compile_to(tmp_path, branch())


def test_a_model_larger_than_the_device_is_refused_before_code_is_generated(tmp_path: Path) -> None:
    target = msgspec.structs.replace(load_target("host"), memory_mib=1)
    builder = onnx_models.GraphBuilder()
    result = builder.conv("x", (3, 8))
    model = builder.model({"x": [1, 3, 256, 256]}, {result: [1, 8, 256, 256]})
    with pytest.raises(InputError, match=r"operator '.*conv.*'.* at most 1 MiB, the memory of"):
        compile_to(tmp_path, model, target)
