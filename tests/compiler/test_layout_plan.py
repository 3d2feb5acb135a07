from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.operators import Convolution, Dense, Network, Pool
from edgekit.compiler.graph.rebias import to_levels_of
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.plan.algorithm import (
    AlgorithmOptions,
    choose_algorithms,
    operator_macs,
)
from edgekit.compiler.plan.flattened import over_blocks, reads_blocks
from edgekit.compiler.plan.forms import image_of, planes_of
from edgekit.compiler.plan.layout import Layout, choose_layout
from tests.compiler import onnx_models
from tests.compiler.onnx_models import GraphBuilder
from tests.compiler.random_models import random_model
from tests.compiler.random_quantized import quantized_randomly

ISA = Isa(lanes=4)


def planned(model: onnx.ModelProto) -> tuple[Network, Layout]:
    network = to_levels_of(read_network(specialise(model)), ISA.level_dtype)
    algorithms = choose_algorithms(network, AlgorithmOptions(winograd="off"), ISA)
    return network, choose_layout(network, algorithms, ISA)


@pytest.mark.parametrize("make", [onnx_models.residual_cnn, onnx_models.depthwise_cnn])
def test_everything_between_input_and_dense_layer_is_an_image(make: object) -> None:
    assert callable(make)
    network, layout = planned(make())
    dense = [item.writes[0] for item in network.operators if isinstance(item, Dense)]
    plain = {name for name, form in layout.forms.items() if form == "plain"}
    assert plain == {*network.inputs, *dense}


@given(seed=st.integers(0, 10_000), is_quantized=st.booleans())
@settings(max_examples=20, deadline=None)
def test_images_have_the_padding_their_readers_look_into(seed: int, is_quantized: bool) -> None:
    model, inner = random_model(seed)
    network, layout = planned(quantized_randomly(model, inner, seed) if is_quantized else model)
    for operator in network.operators:
        if isinstance(operator, Convolution):
            image = layout.images[operator.reads[0]]
            written = network.tensors[operator.writes[0]].shape
            kernel = operator.weights.shape[2:]
            for axis, (extent, before, after) in enumerate(
                (
                    (image.height, image.pads[0], image.pads[2]),
                    (image.width, image.pads[1], image.pads[3]),
                )
            ):
                reach = (kernel[axis] - 1) * operator.dilations[axis] + 1
                end = (written[2 + axis] - 1) * operator.strides[axis] + reach
                assert before >= operator.pads[axis]
                assert before + extent + after >= end + before - operator.pads[axis]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_padding_of_levels_holds_the_zero_point(seed: int) -> None:
    network, layout = planned(quantized_randomly(*random_model(seed), seed))
    for name, image in layout.images.items():
        grid = network.tensors[name].grid
        assert image.fill == (grid.zero_point if grid is not None else 0)


def test_input_of_few_channels_is_not_filled_up_to_a_vector() -> None:
    network, layout = planned(onnx_models.depthwise_cnn())
    (name,) = network.inputs
    assert layout.images[name].lanes <= 4
    wide = Isa(lanes=8)
    algorithms = choose_algorithms(network, AlgorithmOptions(winograd="off"), wide)
    assert choose_layout(network, algorithms, wide).images[name].lanes == 1


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_dense_layer_reads_blocks_of_a_flattened_image(dtype: str) -> None:
    rng = np.random.default_rng(0)
    image = Volume(dtype=dtype, channels=8, height=2, width=3, lanes=4)
    assert reads_blocks(image)
    weights = rng.integers(-9, 9, (5, 8 * 2 * 3)).astype(dtype)
    dense = Dense(
        name="d", nodes=(), reads=("x",), writes=("y",), weights=weights, bias=np.zeros(5, dtype)
    )
    x = rng.integers(-9, 9, (8, 2, 3)).astype(dtype)
    blocked = x.reshape(2, 4, 2, 3).transpose(0, 2, 3, 1).reshape(-1)
    np.testing.assert_array_equal(over_blocks(dense, image).weights @ blocked, weights @ x.ravel())


def test_floats_in_lanes_without_a_channel_are_never_read() -> None:
    half_full = Volume(dtype="float32", channels=6, height=2, width=2, lanes=4)
    assert not reads_blocks(half_full)
    padded = Volume(dtype="int8", channels=8, height=2, width=2, lanes=4, pads=(1, 1, 1, 1))
    assert not reads_blocks(padded)


def winograd_network() -> Network:
    b = GraphBuilder()
    x = "image"
    for inputs, outputs in ((16, 64), (64, 64), (64, 128)):
        x = b.op("Relu", b.conv(x, (inputs, outputs)))
    return read_network(b.model({"image": [1, 16, 28, 28]}, {x: [1, 128, 28, 28]}))


def test_a_size_limit_takes_winograd_back_where_it_pays_least_for_a_byte() -> None:
    network = winograd_network()
    free = choose_algorithms(network, AlgorithmOptions(), ISA)
    assert all(algorithm.startswith("winograd") for algorithm in free.values())
    weights = sum(item.weights.nbytes for item in network.operators)  # type: ignore[attr-defined]
    for size in (10**6, 2 * weights, 10**7):
        limited = choose_algorithms(network, AlgorithmOptions(size_bytes=size), ISA)
        added = {
            "direct": 0,
            "winograd-f2": 16 / 9 - 1,
            "winograd-f4": 4 - 1,
        }
        grown = sum(
            item.weights.nbytes * added[limited[item.name]]  # type: ignore[attr-defined]
            for item in network.operators
        )
        assert grown == 0 or weights + grown <= size
    off = choose_algorithms(network, AlgorithmOptions(winograd="off"), ISA)
    assert set(off.values()) == {"direct"}
    two = choose_algorithms(network, AlgorithmOptions(winograd="f2", size_bytes=1), ISA)
    assert set(two.values()) == {"winograd-f2"}


def test_multiply_adds_are_those_of_the_operator_as_written() -> None:
    network = winograd_network()
    first = network.operators[0]
    assert operator_macs(first, network) == 28 * 28 * 64 * 16 * 9
    pools = [item for item in network.operators if isinstance(item, Pool)]
    assert all(operator_macs(item, network) == 0 for item in pools)


def test_plain_order_of_an_image_is_one_block_per_channel() -> None:
    network, _ = planned(onnx_models.depthwise_cnn())
    tensor = network.tensors[network.inputs[0]]
    planes = planes_of(tensor)
    assert (planes.lanes, planes.elements) == (1, tensor.size)
    assert image_of(tensor, ISA).channels == tensor.shape[1]
