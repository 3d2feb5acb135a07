from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compiler.graph.operators import Lookup, Network, Region
from edgekit.compiler.graph.rebias import LevelDtype, is_shift, to_levels_of
from edgekit.compiler.graph.reference import run_network, trace_network
from edgekit.compiler.graph.tensors import Grid, Tensor
from tests.compiler.networks import LOWEST, example_inputs, on_levels
from tests.compiler.onnx_models import GraphBuilder

seeds = st.integers(0, 2**32 - 1)
OTHER: dict[str, LevelDtype] = {"uint8": "int8", "int8": "uint8"}


@given(seeds, st.sampled_from(["uint8", "int8"]))
def test_every_tensor_is_the_same_up_to_the_shift(seed: int, dtype: str) -> None:
    network = on_levels(seed, dtype)
    moved = to_levels_of(network, OTHER[dtype])
    inputs = example_inputs(network, seed)
    before, after = trace_network(network, inputs), trace_network(moved, inputs)
    for name, tensor in network.tensors.items():
        now = moved.tensors[name].dtype
        shift = LOWEST[now] - LOWEST[dtype] if tensor.grid is not None else 0
        found = after[name].astype(np.float64) - shift
        np.testing.assert_array_equal(found, before[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_only_inputs_outputs_and_their_shifts_keep_the_old_dtype(dtype: str) -> None:
    network = on_levels(0, dtype)
    moved = to_levels_of(network, OTHER[dtype])
    seen = {*network.inputs, *network.outputs}
    kept = {name for name, tensor in moved.tensors.items() if tensor.dtype == dtype}
    assert kept == {name for name in seen if network.tensors[name].dtype == dtype}
    for operator in moved.operators:
        if kept & {*operator.reads, *operator.writes}:
            assert is_shift(operator, moved)


def test_a_network_of_that_dtype_stays_as_it_is() -> None:
    network = on_levels(0, "int8")
    same = to_levels_of(network, "int8")
    assert same.tensors == network.tensors
    assert [item.name for item in same.operators] == [item.name for item in network.operators]


def test_going_there_and_back_keeps_the_results() -> None:
    network = on_levels(3, "uint8")
    inputs = example_inputs(network)
    back = to_levels_of(to_levels_of(network, "int8"), "uint8")
    expected, found = run_network(network, inputs), run_network(back, inputs)
    for name in network.outputs:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_table_of_equal_levels_is_no_shift() -> None:
    grid = Grid(1.0, 0)
    tensors = {name: Tensor(name, (4,), "int8", grid) for name in ("a", "b")}
    identity = Lookup(
        name="same",
        nodes=(),
        reads=("a",),
        writes=("b",),
        table=np.arange(-128, 128).astype(np.int8),
    )
    network = Network(tensors=tensors, operators=(identity,), inputs=("a",), outputs=("b",))
    assert not is_shift(identity, network)


def test_regions_keep_reading_and_writing_what_they_did() -> None:
    b = GraphBuilder()
    result = b.op("Transpose", "first", perm=[1, 0])
    model = b.model({"first": [2, 3]}, {result: [3, 2]}, dtypes={"first": "uint8", result: "uint8"})
    tensors = {
        name: Tensor(name, shape, "uint8", Grid(0.5, 7))
        for name, shape in (("x", (2, 3)), ("first", (2, 3)), (result, (3, 2)), ("y", (3, 2)))
    }
    table = np.arange(255, -1, -1).astype(np.uint8)
    network = Network(
        tensors=tensors,
        operators=(
            Lookup(name="before", nodes=(), reads=("x",), writes=("first",), table=table),
            Region(
                name="region",
                nodes=("t",),
                reads=("first",),
                writes=(result,),
                model=model.SerializeToString(),
                operators=("Transpose",),
            ),
            Lookup(name="after", nodes=(), reads=(result,), writes=("y",), table=table),
        ),
        inputs=("x",),
        outputs=("y",),
    )
    moved = to_levels_of(network, "int8")
    inputs = example_inputs(network)
    np.testing.assert_array_equal(
        run_network(moved, inputs)["y"], run_network(network, inputs)["y"]
    )
    assert moved.tensors["first_int8"].dtype == "int8"
    assert sum(is_shift(operator, moved) for operator in moved.operators) == 4
