"""Move tensors between layouts, and between floats and levels, at the graph's edges.

A plain image [C, H, W] is a `Volume` of one lane without padding; a matrix [M, K] one of K lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.draft import Draft, cut_rows, segments
from edgekit.compiler.kernels.images.interleave import deinterleave, interleave
from edgekit.compiler.kernels.isa.forms import LevelRule, Run
from edgekit.compiler.kernels.values.conversion import Conversion
from edgekit.compiler.kernels.values.pointwise import Place, build_pointwise

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.tensors import Grid
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_BYTES = {"float32": 4, "int32": 4}
_REGISTER_BYTES = 16  # zips of wider registers cross their halves


def build_copy(reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build a kernel that gives a tensor another layout.

    Args:
        reads: The layout it has: floats, int32, or levels, which may change between `uint8` and
            `int8`.
        write: The layout it gets.
        isa: Instruction set.
    """
    return _build(reads[0], write, isa, Conversion(source=reads[0].dtype, result=write.dtype))


def build_quantize(reads: tuple[Volume, ...], write: Volume, isa: Isa, grid: Grid) -> Built:
    """Build a kernel that turns floats of any layout into levels of any layout.

    Args:
        reads: Layout of the floats.
        write: Layout of the levels.
        isa: Instruction set.
        grid: Of the levels, the zero point in terms of `write.dtype`.
    """
    conversion = Conversion(source="float32", result=write.dtype, grid=grid)
    return _build(reads[0], write, isa, conversion)


def build_dequantize(reads: tuple[Volume, ...], write: Volume, isa: Isa, grid: Grid) -> Built:
    """Build a kernel that turns levels of any layout into floats of any layout.

    Args:
        reads: Layout of the levels.
        write: Layout of the floats.
        isa: Instruction set.
        grid: Of the levels, the zero point in terms of the read dtype.
    """
    conversion = Conversion(source=reads[0].dtype, result="float32", grid=grid)
    return _build(reads[0], write, isa, conversion)


def _build(read: Volume, write: Volume, isa: Isa, conversion: Conversion) -> Built:
    shape = (write.channels, write.height, write.width)
    assert (read.channels, read.height, read.width) == shape, (read, write)
    is_line = write.lanes == 1 and shape[1:] == (1, 1) and not (read.is_padded or write.is_padded)
    if read.lanes == write.lanes or is_line:
        return _build_alike(read, write, isa, conversion)
    if read.lanes == 1:
        return _build_packing(read, write, isa, conversion)
    if write.lanes == 1:
        return _build_unpacking(read, write, conversion)
    return _build_regrouping(read, write, isa, conversion)


def _build_alike(read: Volume, write: Volume, isa: Isa, conversion: Conversion) -> Built:
    """Convert values that lie in the same order; rows of one lane are made of whole vectors too."""
    if write.lanes % isa.lanes and (read.is_padded or write.is_padded):
        return _build_rows(read, write, isa, conversion)

    def emit(draft: Draft, place: Place) -> None:
        _convert(draft, conversion, place, isa)

    return build_pointwise([read], write, isa, emit, constants=conversion.constants)


def _build_rows(read: Volume, write: Volume, isa: Isa, conversion: Conversion) -> Built:
    """Convert padded rows of any length."""
    from tvm.tirx.script.builder import ir as T

    slices = cut_rows(write.blocks, write.height)
    with (
        Draft([read], [write], conversion.constants) as draft,
        draft.rows(slices) as (block, row),
    ):
        start, target = (T.Bind(volume.at(block, row, 0)) for volume in (read, write))
        for first, number, size in _powers(write.width * write.lanes, 2 * isa.lanes):
            with T.serial(0, number) as step:
                offset = first + step * size
                value = draft.reads[0][_places(start + offset, size)]
                value = conversion.apply(draft, value, size)
                T.buffer_store(draft.writes[0], value, [_places(target + offset, size)])
    return draft.built(slices.num_items)


def _convert(draft: Draft, conversion: Conversion, place: Place, isa: Isa) -> None:
    from tvm.tirx.script.builder import ir as T

    ((source, start),), (target, index) = place.reads, place.write
    if conversion.is_quantization and conversion.result == isa.level_dtype:
        vectors = tuple(
            conversion.scaled(draft, source[isa.ramp(start + number * isa.lanes)], isa.lanes)
            for number in range(place.vectors)
        )
        _store_levels(target, conversion, index, vectors, isa)
        return
    length = place.vectors * isa.lanes
    value = conversion.apply(draft, source[_places(start, length)], length)
    T.buffer_store(target, value, [_places(index, length)])


def _store_levels(
    buffer: Buffer,
    conversion: Conversion,
    index: Expr | int,
    vectors: tuple[Expr, ...],
    isa: Isa,
) -> None:
    assert conversion.grid is not None
    low = -128 if isa.level_dtype == "int8" else 0
    rule = LevelRule(zero_point=conversion.grid.zero_point, low=low, high=low + 255)
    isa.store_levels(buffer, [Run(index, vectors)], rule)


def _build_packing(read: Volume, write: Volume, isa: Isa, conversion: Conversion) -> Built:
    """Interleave the channels of a plain image."""
    from tvm.tirx.script.builder import ir as T

    length = isa.lanes if conversion.is_quantization else _length(read.dtype)
    read, write = _widened(read, write, length)
    slices = cut_rows(write.blocks, write.height)
    full = write.channels // write.lanes
    with (
        Draft([read], [write], conversion.constants) as draft,
        draft.rows(slices) as (block, row),
    ):

        def pack(channels: int) -> None:
            for start, number, size in _powers(write.width, length):
                with T.serial(0, number) as step:
                    column = start + step * size
                    values = [
                        draft.reads[0][
                            _places(read.at(block * write.lanes + lane, row, column), size)
                        ]
                        for lane in range(channels)
                    ]
                    target = write.at(block, row, column)
                    _store_pixels(draft, conversion, values, write.lanes, target, size)

        _for_each_kind(block, full, write.channels % write.lanes, write.lanes, pack)
    return draft.built(slices.num_items)


def _store_pixels(
    draft: Draft,
    conversion: Conversion,
    values: list[Expr],
    lanes: int,
    target: Expr | int,
    size: int,
) -> None:
    """Convert and interleave the channels of `size` pixels; missing channels become 0."""
    from tvm.tirx.script.builder import ir as T

    result = conversion.result
    if conversion.is_quantization and lanes == 4 and size > 1:
        words = None
        for lane, value in enumerate(values):
            byte = conversion.level(draft, value, size) & T.broadcast(T.int32(255), size)
            moved = byte << T.broadcast(T.int32(8 * lane), size) if lane else byte
            words = moved if words is None else T.bitwise_or(words, moved)
        pixels = T.reinterpret(f"{result}x{4 * size}", words)
        T.buffer_store(draft.writes[0], pixels, [T.ramp(target, 1, 4 * size)])
        return
    values = [T.Bind(conversion.apply(draft, value, size)) for value in values]
    zero = T.Cast(result, T.int32(0))
    values += [T.broadcast(zero, size) if size > 1 else zero] * (lanes - len(values))
    if size > 1:
        pixels = interleave(values, size)
        T.buffer_store(draft.writes[0], pixels, [T.ramp(target, 1, lanes * size)])
        return
    for lane, value in enumerate(values):
        T.buffer_store(draft.writes[0], value, [target + lane])


def _build_unpacking(read: Volume, write: Volume, conversion: Conversion) -> Built:
    """Take the channels of a blocked image apart; items are the blocks that are read."""
    from tvm.tirx.script.builder import ir as T

    assert not write.is_padded, write
    length = _length(read.dtype)
    read, write = _widened(read, write, length)
    lanes, full = read.lanes, read.channels // read.lanes
    slices = cut_rows(read.blocks, read.height)
    with Draft([read], [write], conversion.constants) as draft, draft.items() as item:
        block, first, last = slices.piece(item)

        def unpack(channels: int) -> None:
            with T.serial(first, last) as row:
                for start, number, size in _powers(write.width, length):
                    with T.serial(0, number) as step:
                        column = start + step * size
                        source = read.at(block, row, column)
                        values = _load_channels(draft, source, lanes, size)[:channels]
                        for lane, value in enumerate(values):
                            index = write.at(block * lanes + lane, row, column)
                            converted = conversion.apply(draft, value, size)
                            T.buffer_store(draft.writes[0], converted, [_places(index, size)])

        _for_each_kind(block, full, read.channels % lanes, lanes, unpack)
    return draft.built(slices.num_items)


def _load_channels(draft: Draft, source: Expr | int, lanes: int, size: int) -> list[Expr]:
    from tvm.tirx.script.builder import ir as T

    buffer = draft.reads[0]
    if size == 1:
        return [buffer[source + lane] for lane in range(lanes)]
    return deinterleave(T.Bind(buffer[T.ramp(source, 1, lanes * size)]), lanes, size)


def _build_regrouping(read: Volume, write: Volume, isa: Isa, conversion: Conversion) -> Built:
    """Move between blocks of different sizes, of which one divides the other."""
    from tvm.tirx.script.builder import ir as T

    size = min(read.lanes, write.lanes)
    assert max(read.lanes, write.lanes) % size == 0, (read, write)
    slices = cut_rows(write.blocks, write.height)
    with (
        Draft([read], [write], conversion.constants) as draft,
        draft.rows(slices) as (block, row),
        T.serial(0, write.width) as column,
    ):
        vectors = []
        for part in range(write.lanes // size):
            channel = block * write.lanes + part * size
            # Blocks behind the last one hold lanes that mean nothing: any values will do.
            source = T.min(channel // read.lanes, read.blocks - 1)
            index = read.at(source, row, column) + channel % read.lanes
            vectors.append(draft.reads[0][T.ramp(index, 1, size)])
        target = write.at(block, row, column)
        is_store = conversion.is_quantization and write.dtype == isa.level_dtype
        if is_store and size == isa.lanes:
            scaled = tuple(conversion.scaled(draft, vector, size) for vector in vectors)
            _store_levels(draft.writes[0], conversion, target, scaled, isa)
        else:
            for part, vector in enumerate(vectors):
                value = conversion.apply(draft, vector, size)
                T.buffer_store(draft.writes[0], value, [T.ramp(target + part * size, 1, size)])
    return draft.built(slices.num_items)


def _widened(read: Volume, write: Volume, length: int) -> tuple[Volume, Volume]:
    """Turn rows shorter than a vector into one long row, where there is no padding."""
    if write.width >= length or read.is_padded or write.is_padded:
        return read, write
    return read.flattened(), write.flattened()


def _length(dtype: str) -> int:
    return _REGISTER_BYTES // _BYTES.get(dtype, 1)


def _powers(count: int, largest: int) -> list[tuple[int, int, int]]:
    """Cut `count` as `segments` does, the rest into powers of two."""
    cut = segments(count, largest)[:1] if count >= largest else []
    start = count - count % largest
    while start < count:
        size = 1 << (count - start).bit_length() - 1
        cut.append((start, 1, size))
        start += size
    return cut


def _places(index: Expr | int, size: int) -> Expr | int:
    from tvm.tirx.script.builder import ir as T

    return T.ramp(index, 1, size) if size > 1 else index


def _for_each_kind(
    block: Expr, full: int, rest: int, lanes: int, emit: Callable[[int], None]
) -> None:
    """Emit code for blocks full of channels and for the last one, which holds `rest` channels."""
    from tvm.tirx.script.builder import ir as T

    if not rest or not full:
        emit(rest or lanes)
        return
    with T.If(block < full):
        with T.Then():
            emit(lanes)
        with T.Else():
            emit(rest)
