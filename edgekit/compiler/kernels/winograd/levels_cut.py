"""How a Winograd kernel of levels cuts its work, and its weights in the order it reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekit.compiler.kernels.winograd.integers import integer_weights

if TYPE_CHECKING:
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.volume import Volume

_WANTED_ITEMS = 8
_CACHE_SHARE = 0.7  # of the L2 cache, for a chunk's inputs and one panel's sums


class LevelsCut(msgspec.Struct, frozen=True, kw_only=True):
    """Say how the work is cut.

    Args:
        m: Outputs of a tile in each direction.
        width: Input channels of a 16-bit vector.
        sources: Vectors of input channels.
        grid: Rows and columns of tiles.
        rows: Rows of tiles in a chunk; the last one may have fewer.
        panels: Panels of output channels.
        groups: Groups of panels.
        vectors: int32 vectors of outputs in a panel.
        tiles: Tiles that are summed at once.
    """

    m: int
    width: int
    sources: int
    grid: tuple[int, int]
    rows: int
    panels: int
    groups: int
    vectors: int
    tiles: int

    @property
    def size(self) -> int:
        """Return the inputs of a tile in each direction."""
        return self.m + 2

    @property
    def positions(self) -> int:
        """Return how many products a tile takes, per pair of channels."""
        return self.size**2

    @property
    def chunks(self) -> int:
        """Return how many chunks there are."""
        return -(-self.grid[0] // self.rows)

    @property
    def chunk_tiles(self) -> int:
        """Return the tiles of a chunk."""
        return self.rows * self.grid[1]

    @property
    def group_panels(self) -> int:
        """Return the panels of a group; the last one may have fewer."""
        return -(-self.panels // self.groups)

    @property
    def num_words(self) -> int:
        """Return the 16-bit values of a chunk's transformed inputs."""
        return self.positions * self.sources * self.chunk_tiles * self.width


def choose_cut(x: Volume, y: Volume, isa: Isa, m: int, l2_bytes: int) -> LevelsCut:
    """Choose how to cut a convolution.

    Args:
        x: Layout of the input.
        y: Layout of the result.
        isa: Instruction set.
        m: Outputs of a tile in each direction.
        l2_bytes: Cache of one core.
    """
    grid = (-(-y.height // m), -(-y.width // m))
    width = min(x.lanes, isa.word_lanes)
    sources = x.blocks * x.lanes // width
    vectors, tiles = isa.word_tile
    panels = -(-y.blocks * y.lanes // (vectors * isa.lanes))
    row_bytes = (m + 2) ** 2 * grid[1] * (2 * sources * width + 4 * vectors * isa.lanes)
    fitting = max(int(_CACHE_SHARE * l2_bytes) // row_bytes, 1)
    chunks = -(-grid[0] // min(fitting, grid[0]))
    rows = -(-grid[0] // chunks)
    chunks = -(-grid[0] // rows)
    return LevelsCut(
        m=m,
        width=width,
        sources=sources,
        grid=grid,
        rows=rows,
        panels=panels,
        groups=min(-(-_WANTED_ITEMS // chunks), panels),
        vectors=vectors,
        tiles=tiles,
    )


def packed_words(weights: NDArray[np.int8], cut: LevelsCut, isa: Isa) -> NDArray[np.int16]:
    """Return [panel, position, source, step, output, group], flat."""
    outputs, inputs = weights.shape[:2]
    panel, group = cut.vectors * isa.lanes, isa.word_group
    full = np.zeros((cut.positions, cut.sources * cut.width, cut.panels * panel), np.int16)
    full[:, :inputs, :outputs] = integer_weights(weights, cut.m)
    steps = cut.sources * cut.width // group
    cubes = full.reshape(cut.positions, steps, group, cut.panels, panel)
    return np.ascontiguousarray(cubes.transpose(3, 0, 1, 4, 2)).reshape(-1)
