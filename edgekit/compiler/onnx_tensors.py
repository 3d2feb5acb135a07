"""Check the tensors of an ONNX model against the bytes that are really there.

Nothing is allocated for a tensor before its claimed size is known to be small enough and backed by
data. External data is read from beside the model's file and from nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import onnx

MAX_TENSOR_BYTES = 2**31 - 1
DTYPES = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
    **{9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64"},
}
DTYPE_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}


def is_known_dtype(info: onnx.ValueInfoProto) -> bool:
    """Return whether a declared value is a tensor of a type edgekit handles."""
    return info.type.tensor_type.elem_type in DTYPES


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Return the size in bytes of a tensor's values."""
    return int(math.prod(tensor.dims)) * DTYPE_BYTES.get(tensor.data_type, 0)


def model_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model, also inside its operators and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _graph_tensors(inner)


def check_tensor(path: Path, tensor: onnx.TensorProto) -> None:
    """Check one tensor; external data is read into it.

    Raises:
        InputError: Its type is not handled, it claims more than there is or more than 2 GiB, or
            its external data lies outside the model's folder.
    """
    import onnx

    doing = f"reading {path}: tensor '{tensor.name}'"
    if tensor.data_type not in DTYPES:
        if tensor.data_type == onnx.TensorProto.STRING:
            return  # a label list; it is no operand of anything edgekit compiles
        name = onnx.TensorProto.DataType.Name(tensor.data_type) if tensor.data_type else "no type"
        raise InputError(doing, found=name, expected=", ".join(sorted(DTYPES.values())))
    if any(dim < 0 for dim in tensor.dims):
        raise InputError(doing, found=f"shape {list(tensor.dims)}", expected="sizes from 0 on")
    claimed = tensor_bytes(tensor)
    if claimed > MAX_TENSOR_BYTES:
        raise InputError(
            doing, found=f"shape {list(tensor.dims)}, {claimed} bytes", expected="at most 2 GiB"
        )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _load_external(path, tensor, claimed)
        return
    held = _held_bytes(tensor)
    if held != claimed:
        raise InputError(
            doing,
            found=f"{held} bytes of data",
            expected=f"{claimed} bytes for shape {list(tensor.dims)}",
            hint="The file may be truncated",
        )


def _held_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of values stored, whatever field holds them."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    size = DTYPE_BYTES[tensor.data_type]
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data)
    more = (tensor.double_data, tensor.uint64_data)
    return sum(len(field) for field in (*fields, *more)) * size


def _load_external(path: Path, tensor: onnx.TensorProto, claimed: int) -> None:
    import onnx

    doing = f"reading {path}: external data of tensor '{tensor.name}'"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.parent.resolve()
    # resolve() follows links, so a link that leads out of the folder is seen as well.
    source = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not source.is_relative_to(folder):
        raise InputError(doing, found=f"path '{location}'", expected="a file beside the model")
    try:
        offset, length = (int(entries.get(key, "0")) for key in ("offset", "length"))
        size = source.stat().st_size
        if not source.is_file():
            raise OSError(None, "no regular file")
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(doing, found=f"'{location}': {reason}") from error
    length = length or claimed
    if length != claimed or offset < 0 or offset + length > size:
        raise InputError(
            doing,
            found=f"bytes {offset} to {offset + length} of '{location}', which has {size}",
            expected=f"{claimed} bytes inside the file",
        )
    with source.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
