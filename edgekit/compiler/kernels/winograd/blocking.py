"""How a Winograd kernel walks over an image: chunks of tiles, groups of outputs, register tiles.

The image is a grid of tiles. A chunk is some of its rows: every chunk reads all weights again, so
it has enough tiles for the multipliers to keep up with memory, and no more than the L2 cache holds
inputs of. A group is some of the output channels: its products stay in the cache until they are
transformed back. A register tile is `pixels` x `vectors` accumulators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from edgekit.compiler.kernels.isa.base import Isa

_WANTED_ITEMS = 8
_LINE = 16  # float32 values in a cache line
_WANTED_TILES = 3  # per lane: a core reads a weight of 4 bytes in that many half cycles
_NEEDED_TILES = 2  # per lane, even where their inputs do not fit the L2 cache
_INPUT_SHARE = 1.3  # of the L2 cache; measured: a little overflow costs less than more chunks
_PRODUCT_SHARE = 0.25


class Blocking(msgspec.Struct, frozen=True, kw_only=True):
    """Say how the work of one convolution is cut.

    Args:
        m: Outputs of a tile in each direction.
        lanes: float32 values in a vector.
        inputs: Input channels.
        outputs: Output channels.
        grid: Rows and columns of tiles.
        chunk_rows: Rows of tiles in a chunk; the last one may have fewer.
        group_panels: Panels of output channels in a group; the last one may have fewer.
        pixels: Tiles whose products a register tile sums.
        vectors: Vectors of output channels in a register tile, the width of a panel.
    """

    m: int
    lanes: int
    inputs: int
    outputs: int
    grid: tuple[int, int]
    chunk_rows: int
    group_panels: int
    pixels: int
    vectors: int

    @property
    def positions(self) -> int:
        """Return how many products a tile takes, per pair of channels."""
        return (self.m + 2) ** 2

    @property
    def input_blocks(self) -> int:
        """Return the vectors of input channels."""
        return -(-self.inputs // self.lanes)

    @property
    def output_blocks(self) -> int:
        """Return the vectors of output channels."""
        return -(-self.outputs // self.lanes)

    @property
    def panels(self) -> int:
        """Return how many panels of output channels there are."""
        return -(-self.output_blocks // self.vectors)

    @property
    def group_blocks(self) -> int:
        """Return the vectors of output channels in a group."""
        return min(self.group_panels * self.vectors, self.output_blocks)

    @property
    def groups(self) -> int:
        """Return how many groups there are."""
        return -(-self.panels // self.group_panels)

    @property
    def chunks(self) -> int:
        """Return how many chunks there are."""
        return -(-self.grid[0] // self.chunk_rows)

    @property
    def chunk_tiles(self) -> int:
        """Return the tiles of a chunk."""
        return self.chunk_rows * self.grid[1]

    @property
    def last_tiles(self) -> int:
        """Return the tiles of the last chunk."""
        return (self.grid[0] - (self.chunks - 1) * self.chunk_rows) * self.grid[1]

    @property
    def input_stride(self) -> int:
        """Return the values between two positions of a chunk's transformed inputs."""
        return _odd_lines(self.input_blocks * self.chunk_tiles * self.lanes)

    @property
    def product_stride(self) -> int:
        """Return the values between two positions of a group's products."""
        return _odd_lines(self.group_blocks * self.chunk_tiles * self.lanes)

    @property
    def strip_columns(self) -> int:
        """Return the image columns that a row of tiles takes."""
        return self.grid[1] * self.m + 2

    @property
    def scratch_values(self) -> int:
        """Return the float32 values of scratch: transformed inputs, products, a strip."""
        moving = self.positions * (self.input_stride + self.product_stride)
        return moving + (self.m + 2) * self.strip_columns * self.lanes


def _odd_lines(values: int) -> int:
    """Round up to an odd number of cache lines, so that positions fall into different sets."""
    lines = -(-values // _LINE)
    return (lines | 1) * _LINE


def choose_blocking(
    isa: Isa,
    *,
    m: int,
    inputs: int,
    outputs: int,
    image: tuple[int, int],
    l2_bytes: int,
) -> Blocking:
    """Choose how to cut a convolution.

    Args:
        isa: Gives lanes and registers.
        m: Outputs of a tile in each direction, 2 or 4.
        inputs: Input channels.
        outputs: Output channels.
        image: Height and width of the result.
        l2_bytes: Cache of one core.

    Returns:
        The blocking.
    """
    grid = (-(-image[0] // m), -(-image[1] // m))
    position_bytes = 4 * (m + 2) ** 2 * isa.lanes * grid[1]
    fitting = int(_INPUT_SHARE * l2_bytes / (position_bytes * -(-inputs // isa.lanes)))
    wanted, needed = (-(-isa.lanes * tiles // grid[1]) for tiles in (_WANTED_TILES, _NEEDED_TILES))
    chunks = -(-grid[0] // min(max(min(wanted, fitting), needed), grid[0]))
    rows = -(-grid[0] // chunks)
    blocks = -(-outputs // isa.lanes)
    pixels, vectors = choose_register_tile(isa, rows * grid[1], blocks)
    panels = -(-blocks // vectors)
    most = max(int(_PRODUCT_SHARE * l2_bytes / (position_bytes * vectors * rows)), 1)
    groups = max(-(-panels // most), min(-(-_WANTED_ITEMS // chunks), panels))
    return Blocking(
        m=m,
        lanes=isa.lanes,
        inputs=inputs,
        outputs=outputs,
        grid=grid,
        chunk_rows=rows,
        group_panels=-(-panels // groups),
        pixels=pixels,
        vectors=vectors,
    )


def choose_register_tile(isa: Isa, tiles: int, output_blocks: int) -> tuple[int, int]:
    """Return the register tile (pixels, vectors) that takes the fewest cycles for a chunk.

    Args:
        isa: Gives registers and how inputs are spread over lanes.
        tiles: Tiles of the chunk.
        output_blocks: Vectors of output channels.
    """

    def cycles(shape: tuple[int, int]) -> float:
        pixels, vectors = shape
        whole, rest = cut_tiles(tiles, pixels)
        panels, left = divmod(output_blocks, vectors)
        return sum(
            number * num_panels * _step_cycles(isa, size, width)
            for number, size in ((whole, pixels), *((1, size) for size in rest))
            for num_panels, width in ((panels, vectors), (1, left))
            if num_panels and width
        )

    return min(register_tiles(isa), key=cycles)


def register_tiles(isa: Isa) -> list[tuple[int, int]]:
    """Return all (pixels, vectors) whose accumulators and operands fit the registers.

    Operands are a panel's weights and one input or, where several channels are loaded at once, the
    inputs of all pixels. Of 32 registers two stay free: LLVM's scheduler overlaps steps there, and
    with 31 in use it spilled accumulators.
    """
    by_element = isa.splat_group > 1
    spare = 2 if isa.num_registers >= 32 and not by_element else 0
    return [
        (pixels, vectors)
        for vectors in range(1, 7)
        for pixels in range(1, 16)
        if pixels * vectors + vectors + (pixels if by_element else 1) + spare <= isa.num_registers
    ]


def cut_tiles(count: int, size: int) -> tuple[int, tuple[int, ...]]:
    """Cut a chunk's tiles into register tiles.

    A short rest would leave most multipliers idle, so it shares tiles with the last whole piece.

    Args:
        count: Tiles in a row.
        size: Tiles of a register tile.

    Returns:
        How many pieces of `size` come first, and the sizes of those behind them.
    """
    whole, rest = divmod(count, size)
    if rest == 0:
        return whole, ()
    if whole == 0 or rest > size // 2:
        return whole, (rest,)
    shared = size + rest
    return whole - 1, (shared - shared // 2, shared // 2)


def _step_cycles(isa: Isa, pixels: int, vectors: int) -> float:
    """Estimate half cycles for one input channel: two multiply-adds and two loads per cycle."""
    loads = pixels / isa.splat_group + vectors
    hidden_latency = 8
    return max(pixels * vectors, loads, hidden_latency) + 0.1 * loads
