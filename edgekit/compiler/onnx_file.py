"""Read ONNX files nobody vouches for, and say what goes in and out of them.

An ONNX file is parsed, then every tensor in it is checked against the bytes that are really
there before anything is allocated for it. External data may be read from beside the file and from
nowhere else; what edgekit writes is always one file.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.compiler.onnx_tensors import (
    DTYPE_BYTES,
    DTYPES,
    MAX_TENSOR_BYTES,
    check_tensor,
    model_tensors,
)
from edgekit.core.errors import InputError, near
from edgekit.core.files import write_atomic
from edgekit.core.model import TensorSpec

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 2**31 - 1  # protobuf's own limit
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read and check a model; external data beside it is read into it.

    Args:
        path: The `.onnx` file.

    Returns:
        The model, with all its data inside.

    Raises:
        InputError: The file is missing, no ONNX, damaged, claims more data than it holds, reaches
            outside its folder, or uses types edgekit does not handle.
    """
    data = _read(path)
    model = _parse(path, data)
    _check_opsets(path, model)
    for tensor in model_tensors(model):
        check_tensor(path, tensor)
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        _check_declared(path, info)
    for info in (*model.graph.input, *model.graph.output):
        if "\0" in info.name:
            raise InputError(
                f"reading {path}", found=f"name {info.name!r}", expected="names without a NUL"
            )
    _run_checker(path, model)
    _check_inferred(path, model)
    return model


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write a model as one file, the same bytes for the same model.

    Raises:
        InputError: The model does not fit in one file.
    """
    if model.ByteSize() > MAX_FILE_BYTES:
        raise InputError(
            f"writing {path}", found=f"{model.ByteSize()} bytes", expected="at most 2 GiB"
        )
    write_atomic(path, model.SerializeToString(deterministic=True))


def input_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the inputs a caller must give, None for an open first size.

    Raises:
        InputError: A size other than the first is open, or a size is 0.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    return tuple(_spec(info) for info in model.graph.input if info.name not in constants)


def output_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the outputs, None for an open first size.

    Raises:
        InputError: A size other than the first is open, or a size is 0.
    """
    return tuple(_spec(info) for info in model.graph.output)


def has_qdq(model: onnx.ModelProto) -> bool:
    """Return whether the model holds quantize or dequantize operators: an int8 model."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def set_sizes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> None:
    """Fix open sizes of a model by name, in place.

    Raises:
        InputError: No input has a size of that name.
    """
    inputs = [info.type.tensor_type.shape.dim for info in model.graph.input]
    outputs = [info.type.tensor_type.shape.dim for info in model.graph.output]
    known = {dim.dim_param for dims in inputs for dim in dims if dim.dim_param}
    for name in sizes:
        if name not in known:
            raise InputError(
                f"fixing size '{name}'",
                found=f"open sizes {', '.join(sorted(known)) or 'none'}",
                hint=near(name, known),
            )
    for dim in (dim for dims in (*inputs, *outputs) for dim in dims):
        if dim.dim_param in sizes:
            dim.dim_value = sizes[dim.dim_param]


def specialise(model: onnx.ModelProto, sizes: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Return a copy with a batch of 1 and every named size fixed, its inner shapes inferred.

    Args:
        model: A checked model.
        sizes: Values of further open sizes, by name.

    Returns:
        The copy; all its inputs and outputs have fixed shapes.

    Raises:
        InputError: A size stays open; it is asked for by name.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    constants = {tensor.name for tensor in fixed.graph.initializer}
    chosen = dict(sizes or {})
    for info in fixed.graph.input:
        if info.name not in constants:
            _fix_sizes(f"input '{info.name}'", info, chosen)
    for info in fixed.graph.output:
        # What the inputs decide is inferred again: a stale name or a wrong rank would win.
        info.type.tensor_type.ClearField("shape")
    inferred = _infer(fixed)
    makers = {name: node.name for node in model.graph.node for name in node.output}
    for info, declared in zip(inferred.graph.output, model.graph.output, strict=True):
        doing = f"output '{info.name}' of operator '{makers.get(info.name, '')}'"
        _fill_shape(doing, info, declared, chosen)
    return inferred


def _check_inferred(path: Path, model: onnx.ModelProto) -> None:
    """Refuse a graph that would compute a giant tensor for a single sample."""
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for info in single.graph.input:
        dims = info.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    for info in single.graph.output:
        info.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(single, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return  # what cannot be inferred is refused with its reason where shapes are needed
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        _check_declared(path, info)


def _read(path: Path) -> bytes:
    doing = f"reading {path}"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(doing, found="no regular file", expected="an .onnx file")
        if found.st_size > MAX_FILE_BYTES:
            raise InputError(doing, found=f"{found.st_size} bytes", expected="at most 2 GiB")
        return path.read_bytes()
    except OSError as error:
        raise InputError(doing, found=error.strerror or str(error)) from error


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise InputError(
            f"reading {path}", found="truncated or damaged data", expected="an ONNX model"
        ) from error
    if not model.HasField("graph") or not model.graph.output or not model.opset_import:
        raise InputError(
            f"reading {path}",
            found="no graph with outputs and an opset",
            expected="an ONNX model",
            hint="The file may be truncated, or be something else",
        )
    return model


def _check_opsets(path: Path, model: onnx.ModelProto) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise InputError(
                f"reading {path}",
                found=f"opset {opset.version}",
                expected=f"at most {newest}",
                hint="Export with opset 18",
            )
    for node in model.graph.node:
        if node.domain not in _DOMAINS:
            raise InputError(
                f"reading {path}",
                found=f"operator {node.domain}.{node.op_type} at '{node.name}'",
                expected="operators of ONNX and of com.microsoft",
            )


def _check_declared(path: Path, info: onnx.ValueInfoProto) -> None:
    doing = f"reading {path}: '{info.name}'"
    if not info.type.HasField("tensor_type"):
        raise InputError(
            doing, found=info.type.WhichOneof("value") or "no type", expected="a tensor"
        )
    kind = info.type.tensor_type.elem_type
    if kind and kind not in DTYPES:
        raise InputError(
            doing, found=f"element type {kind}", expected=", ".join(sorted(DTYPES.values()))
        )
    dims = [dim.dim_value for dim in info.type.tensor_type.shape.dim if dim.HasField("dim_value")]
    if any(dim < 0 for dim in dims):
        raise InputError(
            doing,
            found=f"shape {dims}",
            expected="sizes from 0 on",
            hint="Is a window larger than what it moves over?",
        )
    claimed = math.prod(dims) * DTYPE_BYTES.get(kind, 1)
    if claimed > MAX_TENSOR_BYTES:
        raise InputError(
            doing, found=f"shape {dims}, {claimed} bytes", expected="at most 2 GiB per tensor"
        )


def _run_checker(path: Path, model: onnx.ModelProto) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(
            f"reading {path}", found=lines[0][:300] if lines else "an invalid graph"
        ) from error


def _spec(info: onnx.ValueInfoProto) -> TensorSpec:
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        raise InputError(f"tensor '{info.name}'", found="no shape", expected="a known rank")
    shape: list[int | None] = []
    for axis, dim in enumerate(kind.shape.dim):
        if dim.HasField("dim_value"):
            if dim.dim_value == 0:
                raise InputError(f"tensor '{info.name}'", found=f"size 0 at axis {axis}")
            shape.append(dim.dim_value)
        elif axis == 0:
            shape.append(None)
        else:
            raise _open_size(info.name, axis, dim.dim_param)
    return TensorSpec(name=info.name, dtype=DTYPES[kind.elem_type], shape=tuple(shape))


def _fix_sizes(doing: str, info: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> None:
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        if dim.HasField("dim_value"):
            if dim.dim_value == 0:
                raise InputError(doing, found=f"size 0 at axis {axis}")
        elif dim.dim_param in sizes:
            dim.dim_value = sizes[dim.dim_param]
        elif axis == 0:
            dim.dim_value = 1
        else:
            raise _open_size(info.name, axis, dim.dim_param)


def _fill_shape(
    doing: str,
    info: onnx.ValueInfoProto,
    declared: onnx.ValueInfoProto,
    sizes: Mapping[str, int],
) -> None:
    """Take the author's word for sizes that inference leaves open."""
    inferred, said = info.type.tensor_type, declared.type.tensor_type
    is_odd = not inferred.HasField("shape") or len(inferred.shape.dim) != len(said.shape.dim)
    if is_odd and said.HasField("shape"):
        inferred.shape.CopyFrom(said.shape)
    for dim, word in zip(inferred.shape.dim, said.shape.dim, strict=False):
        if not dim.HasField("dim_value"):
            dim.CopyFrom(word)
    _fix_sizes(doing, info, sizes)


def _open_size(tensor: str, axis: int, name: str) -> InputError:
    asked = f"'{name}'" if name else f"axis {axis}"
    return InputError(
        f"fixing the shape of '{tensor}'",
        found=f"open size {asked} at axis {axis}",
        expected="a fixed size everywhere but in the batch (axis 0)",
        hint=f"Export the model with a fixed size for {asked}"
        + (f", or give one: --set model.sizes.{name}=N" if name else ""),
    )


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        lines = str(error).splitlines() or ["no reason given"]
        raise InputError("inferring the shapes of the model", found=lines[0][:300]) from error
    for info in inferred.graph.value_info:
        _check_declared(Path("the model"), info)
    return inferred
