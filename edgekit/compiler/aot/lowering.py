"""Lower kernels to C functions over plain pointers, and all of them to one object file.

TVM's stock pipeline ends in functions that unpack its own calling convention and call its own
runtime. Here `MakePackedAPI` is left out, and its side jobs are done by hand:

- buffer parameters become `void *`, and each kernel returns 0;
- buffers too big for the stack become further pointers, which the memory plan places;
- an outermost parallel loop becomes a range of items that the caller gives, as kernels of our own
  have it, so one small pool of threads serves both;
- the rest is kept on the stack: without `disable_lower_builtin` TVM takes even 448 bytes from
  `TVMBackendAllocWorkspace`, a call into a runtime that is not there;
- `device_type` and `device_id` go around the body last, because `StorageRewrite` lifts
  allocations out of attributes that are already there, and `LowerTVMBuiltin` then aborts.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from edgekit.compiler.aot.elf import read_elf
from edgekit.compiler.aot.outer_loop import rebuild, take_outer_loop
from edgekit.compiler.aot.passes import passes_of_blocks, passes_of_loops
from edgekit.core.errors import StageError

if TYPE_CHECKING:
    import tvm

_STACK_LIMIT = 1024
LIBC = frozenset({"memcpy", "memset", "memmove"})
LIBM = frozenset(
    f"{name}{suffix}"
    for name in (
        *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh"),
        *("erf", "exp", "exp2", "exp10", "expm1", "fabs", "floor", "fma", "fmax", "fmin", "fmod"),
        *("ldexp", "log", "log10", "log1p", "log2", "nearbyint", "pow", "rint", "round"),
        *("roundeven", "sin", "sincos", "sinh", "sqrt", "tan", "tanh", "trunc"),
    )
    for suffix in ("", "f")
)
# Arithmetic the instruction set lacks; every tool chain's own support library has them.
_COMPILER_SUPPORT = re.compile(r"^__(aeabi_\w+|\w*[sdt]i[34]?|\w*[hsdt]f[a-z0-9]*)$")


class LoweredKernels(msgspec.Struct, frozen=True, kw_only=True):
    """Hold object files, one per kernel, and what their functions expect.

    Args:
        objects: The files, in the order of the kernels.
        scratch: Bytes of each further pointer, by kernel, behind the kernel's own parameters.
        num_items: Size of the range of those whose outermost loop became one, by kernel.
        undefined: Names the objects need from libc, libm or the compiler's support library.
    """

    objects: tuple[Path, ...]
    scratch: dict[str, tuple[int, ...]]
    num_items: dict[str, int]
    undefined: tuple[str, ...]


def lower_kernels(
    kernels: Mapping[str, tvm.tirx.PrimFunc],
    llvm_target: tvm.target.Target,
    folder: Path,
    *,
    prefix: str,
    on_kernel: Callable[[str], None] = lambda _: None,
) -> LoweredKernels:
    """Write every kernel as `int PREFIX_NAME(void *, ...)` into an object file of its own.

    LLVM works on several at once, one per processor: TVM lets go of Python's lock there.

    Args:
        kernels: Kernels by name, of blocks over static shapes, or flat ones with a range of items.
        llvm_target: What to generate code for.
        folder: Receives the object files.
        prefix: Start of every function name, so that two models can be linked together.
        on_kernel: Told the kernel, or those LLVM has in work, whenever one is begun, and "" behind
            the last.

    Returns:
        The files, the scratch sizes and the names left open.

    Raises:
        StageError: An object calls something that neither libc nor libm has.
    """
    import tvm

    lowered = {}
    for name, kernel in kernels.items():
        on_kernel(f"kernel '{name}'")
        lowered[name] = _lower_one(kernel, llvm_target, f"{prefix}_{name}")
    build_llvm = tvm.get_global_func("target.build.llvm")
    announced = _Announced(on_kernel)

    def compile_one(name: str) -> Path:
        path = folder / f"{prefix}_{name}.o"
        with announced.working_on(name):
            build_llvm(lowered[name].module, llvm_target).write_to_file(str(path))
        return path

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as workers:
        objects = tuple(workers.map(compile_one, kernels))
    on_kernel("")
    return LoweredKernels(
        objects=objects,
        scratch={name: item.scratch for name, item in lowered.items()},
        num_items={name: item.num_items for name, item in lowered.items() if item.num_items},
        undefined=check_symbols(objects),
    )


class _Lowered(NamedTuple):
    module: tvm.IRModule
    scratch: tuple[int, ...]
    num_items: int


class _Announced:
    """Keep the kernels in work and tell them: whatever ends the process is one of these."""

    def __init__(self, on_kernel: Callable[[str], None]) -> None:
        self._on_kernel = on_kernel
        self._names: dict[str, None] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def working_on(self, name: str) -> Iterator[None]:
        with self._lock:
            self._names[name] = None
            self._on_kernel("LLVM, " + ", ".join(f"kernel '{each}'" for each in self._names))
        yield
        with self._lock:
            del self._names[name]


def _lower_one(kernel: tvm.tirx.PrimFunc, llvm_target: tvm.target.Target, symbol: str) -> _Lowered:
    import tvm

    lowered, num_items = _lower(_with_pointers(kernel, symbol), llvm_target), 0
    ranged = take_outer_loop(lowered)
    if ranged is not None:
        lowered, num_items = ranged
    function, scratch = _place_buffers(lowered)
    return _Lowered(_finalize(tvm.IRModule({symbol: function})), scratch, num_items)


def check_symbols(objects: Iterable[Path]) -> tuple[str, ...]:
    """Return the names that object files leave open, all of them from libc or libm.

    Raises:
        StageError: One needs something else, such as a function of TVM's runtime.
    """
    undefined = set().union(*(read_elf(path).undefined for path in objects))
    foreign = sorted(
        name
        for name in undefined - LIBC - LIBM
        if not _COMPILER_SUPPORT.match(name) and name != "_GLOBAL_OFFSET_TABLE_"
    )
    if foreign:
        raise StageError(
            "compiling kernels to plain C functions left calls into a runtime",
            found=", ".join(foreign),
            expected="functions of libc and libm only",
        )
    return tuple(sorted(undefined))


def num_bytes(shape: Iterable[tvm.tirx.IntImm], dtype: object) -> int:
    """Return the size of a buffer; a vector type such as `float32x8` counts all its lanes."""
    match = re.fullmatch(r"([a-z_]+?)(\d*)(?:x(\d+))?", str(dtype))
    assert match is not None, dtype
    bits = 8 if match[1] == "bool" else int(match[2])
    total = int(match[3] or 1) * max(bits, 8) // 8
    for dim in shape:
        total *= int(dim)
    return total


def _with_pointers(kernel: tvm.tirx.PrimFunc, symbol: str) -> tvm.tirx.PrimFunc:
    import tvm
    from tvm import tirx

    # Scalars, such as the range of items of a kernel of our own, stay what they are.
    buffers = [param for param in kernel.params if not isinstance(param.ty, tvm.ir.PrimType)]
    pointers = {
        buffer: tirx.Var(buffer.name, tvm.ir.PointerType(buffer.ty.dtype, "global"))
        for buffer in buffers
    }
    params = [pointers.get(param, param) for param in kernel.params]
    declared = [tirx.DeclBuffer(buffer, data=pointers[buffer]) for buffer in buffers]
    # Some of TVM's kernels take tensors inside of larger ones; here a pointer is where one begins.
    offsets = [buffer.ty.elem_offset for buffer in buffers]
    bound = [
        tirx.Bind(offset, tirx.IntImm(str(offset.ty), 0))
        for offset in offsets
        if isinstance(offset, tirx.Var)
    ]
    # The value is what lets a failed parallel launch leave a kernel; today it is always 0.
    body = tirx.SeqStmt([*bound, *declared, kernel.body, tirx.Return(tirx.IntImm("int32", 0))])
    function = tirx.PrimFunc(params, body, tvm.ir.PrimType("int32"), kernel.attrs)
    return function.with_attr("global_symbol", symbol)


def _lower(function: tvm.tirx.PrimFunc, llvm_target: tvm.target.Target) -> tvm.tirx.PrimFunc:
    """Run the CPU's share of the stock pipeline up to where `MakePackedAPI` would come."""
    import tvm
    from tvm import tirx

    bind = tirx.transform.BindTarget(llvm_target.with_host(llvm_target))
    # A kernel of our own, which says its items, is flat already: half of the passes find nothing
    # to do there and take most of the time.
    is_flat = any(isinstance(param.ty, tvm.ir.PrimType) for param in function.params)
    passes = passes_of_loops() if is_flat else passes_of_blocks()
    symbol = function.attrs["global_symbol"]
    module = tvm.ir.transform.Sequential([bind, *passes])(tvm.IRModule({symbol: function}))
    return module[symbol]


def _place_buffers(
    function: tvm.tirx.PrimFunc,
) -> tuple[tvm.tirx.PrimFunc, tuple[int, ...]]:
    """Turn large buffers into pointer parameters and keep small ones on the stack."""
    import tvm
    from tvm import tirx

    sizes: list[int] = []
    params = list(function.params)

    def place(statement: tvm.tirx.Stmt) -> tvm.tirx.Stmt:
        if isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.PARALLEL:
            # A parallel loop inside would call TVM's runtime.
            loop = statement
            return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)
        if not isinstance(statement, tirx.AllocBuffer):
            return statement
        kind = statement.buffer.ty
        size = num_bytes(kind.shape, kind.dtype)
        if size <= _STACK_LIMIT or kind.storage_scope == "local":
            on_stack = {"disable_lower_builtin": tirx.IntImm("bool", 1)}
            return tirx.AllocBuffer(statement.buffer, on_stack)
        pointer = tirx.Var(f"scratch{len(sizes)}", tvm.ir.PointerType(kind.dtype, "global"))
        sizes.append(size)
        params.append(pointer)
        return tirx.DeclBuffer(statement.buffer, data=pointer)

    body = rebuild(function.body, place)
    for key, value in (("device_type", 1), ("device_id", 0)):
        body = tirx.AttrStmt("default", key, tirx.IntImm("int32", value), body)
    return tirx.PrimFunc(params, body, function.ret_type, function.attrs), tuple(sizes)


def _finalize(module: tvm.IRModule) -> tvm.IRModule:
    import tvm
    from tvm import tirx

    passes = [tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()]
    return tvm.ir.transform.Sequential(passes)(module)
