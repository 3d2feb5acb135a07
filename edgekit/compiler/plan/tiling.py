"""Choose register tiles: by a table that was measured on the target, else by analysis."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgekit.compiler.graph.operators import Convolution, Dense
from edgekit.compiler.kernels.convolution.tiles import Tile, candidate_tiles, parse_tile, tile_key
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume
from edgekit.core.errors import InputError


class Choice(msgspec.Struct, frozen=True):
    """Hold the tile of one layer.

    Args:
        layer: Key of the layer in a table of tiles.
        tile: What was chosen.
    """

    layer: str
    tile: Tile


class Tiling(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Choose the tile of each product.

    Args:
        isa: Instruction set.
        caches_kib: Sizes of the target's caches by name, as a target states them.
        table: Measured tiles by layer; empty where nothing was measured.
        candidate: Which of the analytic choice's tiles to take, the best being 0; the last one
            where there are fewer.
    """

    isa: Isa
    caches_kib: Mapping[str, int]
    table: Mapping[str, Tile] = {}
    candidate: int = 0

    def choose(self, operator: Convolution | Dense, x: Volume, y: Volume) -> Choice:
        """Return the tile of a convolution or a dense layer.

        Args:
            operator: The operator.
            x: Layout of its input.
            y: Layout of its result.
        """
        layer = tile_key(operator, x, y, self.isa)
        if layer in self.table:
            return Choice(layer, self.table[layer])
        limit = self.candidate + 1
        tiles = candidate_tiles(operator, x, y, self.isa, self.caches_kib, limit=limit)
        return Choice(layer, tiles[-1])


def read_tiles(texts: Mapping[str, str], target: str) -> dict[str, Tile]:
    """Read the measured tiles of a target.

    Args:
        texts: Tiles as text, by layer.
        target: Its name, for messages.

    Raises:
        InputError: One is no tile.
    """
    tiles = {}
    for layer, text in texts.items():
        try:
            tiles[layer] = parse_tile(text)
        except ValueError as error:
            raise InputError(
                f"reading the measured tile of layer '{layer}' of target '{target}'",
                found=f"'{text}': {error}",
                hint="`edgekit tune` measures the table anew",
            ) from error
    return tiles
