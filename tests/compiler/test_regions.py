"""Regions: as large as can be, never around what must run in between, everything inside."""

from __future__ import annotations

import numpy as np
import onnx

from edgekit.compiler.graph.operators import Region
from tests.compiler.frontend_checks import QdqBuilder, kinds, only, read_and_compare, read_levels
from tests.compiler.onnx_models import GraphBuilder

SHAPE = (1, 4, 6, 6)


def test_neighbours_share_a_region_with_their_names_and_constants() -> None:
    b = GraphBuilder()
    y = b.op("Mul", b.op("Ceil", b.op("Sin", "x")), b.weight(1, 1, 6, 6))
    region = only(read_and_compare(b.model({"x": SHAPE}, {y: SHAPE})), Region)
    assert region.operators == ("Sin", "Ceil", "Mul")
    assert region.nodes == tuple(node.name for node in b.nodes)
    assert (region.reads, region.writes) == (("x",), (y,))
    model = onnx.load_model_from_string(region.model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.name for node in model.graph.node] == list(region.nodes)
    assert len(model.graph.initializer) == 1


def test_a_region_never_waits_for_what_waits_for_it() -> None:
    b = GraphBuilder()
    first = b.op("Ceil", "x")
    between = b.conv(first, (4, 4))
    y = b.op("PRelu", b.op("Sin", between), first)
    network = read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))
    assert kinds(network) == ["Region", "Convolution", "Region"]


def test_two_regions_do_not_come_to_wait_for_each_other() -> None:
    b = GraphBuilder()
    left, right = b.op("Ceil", "x"), b.op("Floor", "x")
    crossed = [
        b.op("PRelu", b.conv(left, (4, 4)), right),
        b.op("PRelu", b.conv(right, (4, 4)), left),
    ]
    y = b.op("PRelu", *crossed)
    read_and_compare(b.model({"x": SHAPE}, {y: SHAPE}))


def test_what_the_caller_wants_leaves_a_region() -> None:
    b = GraphBuilder()
    inner = b.op("Ceil", "x")
    y = b.op("Sin", inner)
    region = only(read_and_compare(b.model({"x": SHAPE}, {inner: SHAPE, y: SHAPE})), Region)
    assert set(region.writes) == {inner, y}


def test_light_operators_between_nodes_stay_with_them() -> None:
    b = GraphBuilder()
    y = b.op("Relu", b.op("Ceil", "x"))
    y = b.op("Reshape", b.op("Sin", y), b.constant(np.array([4, 36])))
    y = b.op("Transpose", y, perm=[1, 0])
    assert kinds(read_and_compare(b.model({"x": SHAPE}, {y: [36, 4]}))) == ["Region"]


def test_levels_go_through_a_region_as_they_are() -> None:
    b = QdqBuilder()
    x = b.levels(b.op("Conv", b.levels("x"), b.stored(4, 4, 1, 1)), scale=0.2)
    x = b.levels(b.op("Transpose", x, perm=[0, 1, 3, 2]), scale=0.2)
    y = b.levels(b.op("Conv", x, b.stored(4, 4, 1, 1)), scale=0.3)
    network = read_levels(b.finish({y: SHAPE}, *SHAPE))
    assert kinds(network) == ["Quantize", "Convolution", "Region", "Convolution", "Dequantize"]
    region = only(network, Region)
    assert region.operators == ("Transpose",)
    grids = [network.tensors[name].grid for name in (*region.reads, *region.writes)]
    assert grids[0] is not None
    assert grids[0] == grids[1]
