"""Average every channel over the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.border import fill_block
from edgekit.compiler.kernels.draft import Draft, segments
from edgekit.compiler.kernels.values.requantization import Requantization

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import GlobalAverage
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_CHAINS = 8  # independent sums hide the latency of an addition


def build_global_average(
    op: GlobalAverage, reads: tuple[Volume, ...], write: Volume, isa: Isa
) -> Built:
    """Build the kernel of a global average; items are blocks of channels.

    Args:
        op: The operator.
        reads: Layout of the image.
        write: Layout of one pixel, blocked alike.
        isa: Instruction set.
    """
    (image,) = reads
    assert write.lanes == image.lanes, (image, write)
    count = image.height * image.width
    requantization = None if op.result is None else Requantization(op.result, write, isa)
    constants = [] if requantization is None else requantization.constants
    with Draft(reads, [write], constants) as draft, draft.items() as block:
        sums = _sum_pixels(draft.reads[0], image, block, isa)
        target, index = draft.writes[0], write.at(block, 0, 0)
        if requantization is None:
            _store_means(target, index, sums, count, isa)
        else:
            correction = isa.splat_int(count * op.input_zero_point)
            centred = [total - correction for total in sums]
            requantization.store(draft, (target, index), block, centred)
        fill_block(target, write, block)
    return draft.built(write.blocks)


def _store_means(target: Buffer, index: Expr, sums: list[Expr], count: int, isa: Isa) -> None:
    from tvm.tirx.script.builder import ir as T

    for part, total in enumerate(sums):
        T.buffer_store(target, total / isa.splat(count), [isa.ramp(index + part * isa.lanes)])


def _sum_pixels(buffer: Buffer, image: Volume, block: Expr, isa: Isa) -> list[Expr]:
    """Return the sums over all pixels of a block, one per vector of a pixel."""
    from tvm.tirx.script.builder import ir as T

    if not image.is_padded:
        image = image.flattened()
    is_float = image.dtype == "float32"
    dtype, zero = ("float32", isa.splat(0)) if is_float else ("int32", isa.splat_int(0))
    parts = image.lanes // isa.lanes
    chains = max(1, min(_CHAINS // parts, image.width))
    totals = T.alloc_buffer((chains * parts * isa.lanes,), dtype, scope="local")
    places = [isa.ramp(number * isa.lanes) for number in range(chains * parts)]
    for place in places:
        T.buffer_store(totals, zero, [place])
    with T.serial(0, image.height) as row:
        for start, number, pixels in segments(image.width, chains):
            with T.serial(0, number) as step:
                index = image.at(block, row, start + step * chains)
                count = pixels * parts
                if is_float:
                    loaded = [buffer[isa.ramp(index + n * isa.lanes)] for n in range(count)]
                else:
                    loaded = isa.load_levels(buffer, index, 0, count)
                for place, value in zip(places, loaded, strict=False):
                    T.buffer_store(totals, totals[place] + value, [place])
    return [_tree([totals[place] for place in places[part::parts]]) for part in range(parts)]


def _tree(values: list[Expr]) -> Expr:
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]
