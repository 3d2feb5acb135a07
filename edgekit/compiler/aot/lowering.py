"""Lower kernels to C functions over plain pointers, and all of them to one object file.

TVM's stock pipeline ends in functions that unpack its own calling convention and call its own
runtime. Here `MakePackedAPI` is left out, and its side jobs are done by hand:

- buffer parameters become `void *`, and each kernel returns 0;
- buffers too big for the stack become further pointers, which the memory plan places;
- the rest is kept on the stack: without `disable_lower_builtin` TVM takes even 448 bytes from
  `TVMBackendAllocWorkspace`, a call into a runtime that is not there;
- `device_type` and `device_id` go around the body last, because `StorageRewrite` lifts
  allocations out of attributes that are already there, and `LowerTVMBuiltin` then aborts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.aot.elf import read_elf
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
        *("roundeven", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"),
    )
    for suffix in ("", "f")
)
# Arithmetic the instruction set lacks; every tool chain's own support library has them.
_COMPILER_SUPPORT = re.compile(r"^__(aeabi_\w+|\w*[sdt]i[34]?|\w*[hsdt]f[a-z0-9]*)$")


class LoweredKernels(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one object file and what its functions expect.

    Args:
        scratch: Bytes of each further pointer, by kernel, behind the kernel's own parameters.
        undefined: Names the object needs from libc, libm or the compiler's support library.
    """

    scratch: dict[str, tuple[int, ...]]
    undefined: tuple[str, ...]


def lower_kernels(
    kernels: Mapping[str, tvm.tirx.PrimFunc],
    llvm_target: tvm.target.Target,
    object_path: Path,
    *,
    prefix: str,
    on_kernel: Callable[[str], None] = lambda _: None,
) -> LoweredKernels:
    """Write every kernel as `int PREFIX_NAME(void *, ...)` into one object file.

    Args:
        kernels: Kernels by name, of blocks over static shapes.
        llvm_target: What to generate code for.
        object_path: The file to write.
        prefix: Start of every function name, so that two models can be linked together.
        on_kernel: Told "kernel 'NAME'" before each is lowered, and "" behind the last.

    Returns:
        The scratch sizes and the names left open.

    Raises:
        StageError: The object calls something that neither libc nor libm has.
    """
    import tvm

    functions: dict[str, tvm.tirx.PrimFunc] = {}
    scratch: dict[str, tuple[int, ...]] = {}
    for name, kernel in kernels.items():
        on_kernel(f"kernel '{name}'")
        symbol = f"{prefix}_{name}"
        lowered = _lower(_with_pointers(kernel, symbol), llvm_target)
        functions[symbol], scratch[name] = _place_buffers(lowered)
    on_kernel("")
    module = _finalize(tvm.IRModule(functions))
    built = tvm.get_global_func("target.build.llvm")(module, llvm_target)
    built.write_to_file(str(object_path))
    return LoweredKernels(scratch=scratch, undefined=check_symbols(object_path))


def check_symbols(object_path: Path) -> tuple[str, ...]:
    """Return the names an object file leaves open, all of them from libc or libm.

    Raises:
        StageError: It needs something else, such as a function of TVM's runtime.
    """
    undefined = read_elf(object_path).undefined
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

    pointers = [
        tirx.Var(buffer.name, tvm.ir.PointerType(buffer.ty.dtype, "global"))
        for buffer in kernel.params
    ]
    declared = [
        tirx.DeclBuffer(buffer, data=pointer)
        for buffer, pointer in zip(kernel.params, pointers, strict=True)
    ]
    # The value is what lets a failed parallel launch leave a kernel; today it is always 0.
    body = tirx.SeqStmt([*declared, kernel.body, tirx.Return(tirx.IntImm("int32", 0))])
    function = tirx.PrimFunc(pointers, body, tvm.ir.PrimType("int32"), kernel.attrs)
    return function.with_attr("global_symbol", symbol)


def _lower(function: tvm.tirx.PrimFunc, llvm_target: tvm.target.Target) -> tvm.tirx.PrimFunc:
    """Run the CPU's share of the stock pipeline up to where `MakePackedAPI` would come."""
    import tvm
    from tvm import s_tir, tirx

    blocks, plain = s_tir.transform, tirx.transform
    passes = [
        plain.BindTarget(llvm_target.with_host(llvm_target)),
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.CompactBufferAllocation(),
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.AnnotateIrregularLoop(),
        blocks.LowerOpaqueBlock(),
        plain.FlattenBuffer(),
        plain.BF16ComputeLegalize(),
        plain.NarrowDataType(32),
        blocks.LoopPartition(),
        plain.VectorizeLoop(True),
        plain.StorageRewrite(),
        blocks.HoistIfThenElse(),
        plain.UnrollLoop(),
        blocks.RenormalizeSplitPattern(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        plain.CommonSubexprElim(),
        plain.FP8ComputeLegalize(),
        plain.VerifyMemory(),
        plain.AnnotateEntryFunc(),
        plain.FP8StorageLegalize(),
        plain.BF16StorageLegalize(),
    ]
    symbol = function.attrs["global_symbol"]
    module = tvm.ir.transform.Sequential(passes)(tvm.IRModule({symbol: function}))
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

    body = _rebuild(function.body, place)
    for key, value in (("device_type", 1), ("device_id", 0)):
        body = tirx.AttrStmt("default", key, tirx.IntImm("int32", value), body)
    return tirx.PrimFunc(params, body, function.ret_type, function.attrs), tuple(sizes)


def _rebuild(
    statement: tvm.tirx.Stmt, change: Callable[[tvm.tirx.Stmt], tvm.tirx.Stmt]
) -> tvm.tirx.Stmt:
    """Rebuild a statement bottom-up: TVM 0.27 has no statement mutator in Python."""
    from tvm import tirx

    if isinstance(statement, tirx.SeqStmt):
        parts = [_rebuild(part, change) for part in statement.seq]
        return change(tirx.SeqStmt(parts))
    if isinstance(statement, tirx.For):
        loop = statement
        body = _rebuild(loop.body, change)
        rebuilt = tirx.For(
            *(loop.loop_var, loop.min, loop.extent, loop.kind, body),
            *(loop.thread_binding, loop.annotations, loop.step),
        )
        return change(rebuilt)
    if isinstance(statement, tirx.While):
        return change(tirx.While(statement.condition, _rebuild(statement.body, change)))
    if isinstance(statement, tirx.AttrStmt):
        body = _rebuild(statement.body, change)
        return change(tirx.AttrStmt(statement.node, statement.attr_key, statement.value, body))
    if isinstance(statement, tirx.IfThenElse):
        then = _rebuild(statement.then_case, change)
        other = statement.else_case
        return change(
            tirx.IfThenElse(
                statement.condition, then, _rebuild(other, change) if other is not None else None
            )
        )
    return change(statement)


def _finalize(module: tvm.IRModule) -> tvm.IRModule:
    import tvm
    from tvm import tirx

    passes = [tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()]
    return tvm.ir.transform.Sequential(passes)(module)
