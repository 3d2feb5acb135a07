"""How convolutions are cut, packed and named; nothing is compiled here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.arithmetic.windows import convolve
from edgekit.compiler.graph.operators import Convolution, Dense, Pool
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.convolution.cuts import cut_evenly
from edgekit.compiler.kernels.convolution.geometry import layer_of, merge_groups, required_pads
from edgekit.compiler.kernels.convolution.tiles import (
    Tile,
    candidate_tiles,
    choose_tile,
    parse_tile,
    tile_key,
)
from edgekit.compiler.kernels.isa.avx2 import Avx2
from edgekit.compiler.kernels.isa.avx512_vnni import Avx512Vnni
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume

CACHES = {"l1d": 32, "l2": 512}
NAMES = {"name": "op", "nodes": ("op",), "reads": ("x",), "writes": ("y",)}


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Convolution:
    pad = kernel // 2
    return Convolution(
        weights=np.ones((outputs, inputs, kernel, kernel), np.float32),
        bias=np.zeros(outputs, np.float32),
        strides=(stride, stride),
        pads=(pad, pad, pad, pad),
        **NAMES,
    )


def volume(channels: int, size: int, pad: int = 0, lanes: int = 8) -> Volume:
    return Volume(
        dtype="float32",
        channels=channels,
        height=size,
        width=size,
        lanes=lanes,
        pads=(pad, pad, pad, pad),
    )


@given(st.integers(1, 60), st.integers(1, 20), st.sampled_from([1, 2, 4]))
def test_pieces_cover_a_range_once_and_differ_by_at_most_one_unit(
    units: int, size: int, unit: int
) -> None:
    cut = cut_evenly(units * unit, size * unit, unit)
    assert sum(cut.sizes) == units * unit
    assert max(cut.sizes) - min(cut.sizes) in (0, unit)
    assert max(cut.sizes) <= size * unit
    assert cut.count == -(-units // size)
    starts = [cut.start_of(number) for number in range(cut.count + 1)]
    assert np.diff(starts).tolist() == cut.sizes


def test_padding_reaches_as_far_as_the_last_window() -> None:
    x, y = Tensor("x", (1, 3, 224, 224), "float32"), Tensor("y", (1, 8, 112, 112), "float32")
    assert required_pads(convolution(3, 8, kernel=7, stride=2), x, y) == (3, 3, 2, 2)
    pool = Pool(mode="max", window=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1), **NAMES)
    assert required_pads(pool, x, y) == (0, 0, 1, 1)
    dense = Dense(weights=np.ones((2, 3), np.float32), bias=np.zeros(2, np.float32), **NAMES)
    assert required_pads(dense, x, y) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "left"),
    [(4, 4, 4, 2), (4, 3, 5, 1), (2, 8, 16, 2), (6, 4, 4, 3)],
)
def test_merged_groups_compute_the_same(groups: int, inputs: int, outputs: int, left: int) -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((groups * outputs, inputs, 1, 1)).astype(np.float32)
    image = random.standard_normal((1, groups * inputs, 2, 2))
    wide, fewer = merge_groups(weights, groups, 8, 8)
    assert fewer == left
    np.testing.assert_allclose(
        convolve(image, wide.astype(np.float64), groups=fewer),
        convolve(image, weights.astype(np.float64), groups=groups),
    )


def test_pointwise_convolutions_without_padding_are_one_long_row() -> None:
    op = convolution(16, 32, kernel=1)
    flat = layer_of(op, [volume(16, 14)], volume(32, 14), Avx2())
    assert (flat.y.height, flat.y.width) == (1, 196)
    padded = layer_of(op, [volume(16, 14)], volume(32, 14, pad=1), Avx2())
    assert (padded.y.height, padded.y.width) == (14, 14)


@pytest.mark.parametrize("isa", [Isa(4), Avx2(), Avx512Vnni()], ids=lambda isa: type(isa).__name__)
@pytest.mark.parametrize("size", [7, 14, 56])
def test_chosen_tiles_stay_in_registers_and_use_most_of_them(isa: Isa, size: int) -> None:
    x, y = volume(64, size, 1, isa.lanes), volume(128, size, 1, isa.lanes)
    tile = choose_tile(convolution(64, 128), x, y, isa, CACHES)
    assert isa.fits(tile.rows * tile.columns, tile.vectors, is_integer=False)
    assert tile.rows * tile.columns * tile.vectors >= isa.num_registers // 2


def test_the_first_candidate_is_the_chosen_tile_and_all_differ() -> None:
    op, x, y = convolution(64, 128), volume(64, 14, 1), volume(128, 14)
    tiles = candidate_tiles(op, x, y, Avx2(), CACHES)
    assert tiles[0] == choose_tile(op, x, y, Avx2(), CACHES)
    assert len(set(map(str, tiles))) == len(tiles) > 8


def test_weights_of_a_tile_fit_the_second_cache() -> None:
    tile = choose_tile(convolution(512, 512), volume(512, 7, 1), volume(512, 7), Avx2(), CACHES)
    assert tile.vectors * 8 * 512 * 9 * 4 < CACHES["l2"] * 1024


@given(
    st.builds(
        Tile,
        *(st.integers(1, 9), st.integers(1, 30), st.integers(1, 9), st.integers(1, 999)),
        order=st.sampled_from(["outputs", "spatial"]),
        unroll=st.integers(1, 32),
    )
)
def test_a_written_tile_reads_back(tile: Tile) -> None:
    assert parse_tile(str(tile)) == tile


def test_a_text_that_is_no_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="order is 'sideways'"):
        parse_tile("1x6x2 14 sideways 8")


def test_keys_tell_layers_apart_and_ignore_weights() -> None:
    x, y = volume(16, 14, 1), volume(32, 14)
    first = tile_key(convolution(16, 32), x, y, Avx2())
    assert first == "float32 16-32 14x14 k3x3 s1x1 b8-8"
    assert tile_key(convolution(16, 32, kernel=1), volume(16, 14), y, Avx2()) == (
        "float32 16-32 1x196 k1x1 s1x1 flat b8-8"
    )
