from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.pruning.allocate import Limits, allocate, check_reachable
from edgekit.compress.pruning.groups import Group, Member
from edgekit.core.errors import InputError, StageError

Kept = Mapping[str, tuple[int, ...]]


def group(name: str, num_units: int, unit_size: int = 1) -> Group:
    indices = tuple(
        tuple(unit + block * num_units for block in range(unit_size)) for unit in range(num_units)
    )
    member = Member(module=name, kind="out", width=num_units * unit_size, indices=indices)
    return Group(name=name, unit_size=unit_size, num_units=num_units, members=(member,))


def chain_cost(groups: list[Group]) -> object:
    """Cost of layers in a row: each multiplies what it takes by what it gives."""

    def cost(kept: Kept) -> float:
        widths = [1.0, *(len(kept[found.name]) * found.unit_size for found in groups), 10.0]
        return float(sum(a * b for a, b in itertools.pairwise(widths)))

    return cost


def random_scores(groups: list[Group], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        found.name: torch.rand(found.num_units, generator=generator, dtype=torch.float64)
        for found in groups
    }


networks = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([1, 1, 2, 4])), min_size=1, max_size=5
).map(lambda sizes: [group(f"layer{i}", *size) for i, size in enumerate(sizes)])


@given(
    groups=networks,
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
    round_to=st.sampled_from([1, 2, 4, 8]),
    min_channels=st.integers(1, 12),
    scope=st.sampled_from(["global", "layer"]),
)
def test_the_request_is_met_to_within_one_rounding_step(
    groups: list[Group], seed: int, share: float, round_to: int, min_channels: int, scope: str
) -> None:
    limits = Limits(min_channels=min_channels, round_to=round_to)
    cost = chain_cost(groups)
    fewest = {found.name: tuple(range(limits.allowed(found)[0])) for found in groups}
    whole = cost({found.name: tuple(range(found.num_units)) for found in groups})
    ratio = share * (1.0 - cost(fewest) / whole) * 0.999
    found = allocate(
        groups, random_scores(groups, seed), cost, ratio=ratio, limits=limits, scope=scope
    )
    assert found.achieved == pytest.approx(1.0 - cost(found.kept) / whole)
    assert ratio - 1e-12 <= found.achieved <= ratio + found.step + 1e-12
    for one in groups:
        channels = len(found.kept[one.name]) * one.unit_size
        assert channels > 0
        assert channels == one.num_channels or (
            channels % round_to == 0 and channels >= min_channels
        )


@given(groups=networks, seed=st.integers(0, 1000))
def test_ratio_zero_keeps_everything(groups: list[Group], seed: int) -> None:
    found = allocate(
        groups, random_scores(groups, seed), chain_cost(groups), ratio=0.0, limits=Limits()
    )
    assert found.kept == {one.name: tuple(range(one.num_units)) for one in groups}
    assert found.achieved == 0.0


@given(seed=st.integers(0, 1000), ratio=st.floats(0.05, 0.9))
def test_what_stays_in_a_group_scores_higher_than_what_goes(seed: int, ratio: float) -> None:
    groups = [group("one", 12), group("two", 20)]
    scores = random_scores(groups, seed)
    found = allocate(groups, scores, chain_cost(groups), ratio=ratio, limits=Limits())
    for one in groups:
        kept = set(found.kept[one.name])
        gone = set(range(one.num_units)) - kept
        values = scores[one.name]
        assert not gone or max(values[list(gone)]) <= min(values[list(kept)])


def test_globally_the_group_with_low_scores_gives_most() -> None:
    groups = [group("weak", 20), group("strong", 20)]
    scores = {
        "weak": torch.linspace(0, 1, 20, dtype=torch.float64),
        "strong": torch.linspace(2, 3, 20, dtype=torch.float64),
    }
    found = allocate(groups, scores, chain_cost(groups), ratio=0.3, limits=Limits())
    assert len(found.kept["strong"]) == 20
    assert len(found.kept["weak"]) < 20


def test_layer_by_layer_every_group_gives_its_share() -> None:
    groups = [group("weak", 20), group("strong", 40)]
    scores = {
        "weak": torch.zeros(20, dtype=torch.float64),
        "strong": torch.full((40,), 9.0, dtype=torch.float64),
    }
    found = allocate(groups, scores, chain_cost(groups), ratio=0.6, limits=Limits(), scope="layer")
    shares = [len(found.kept[one.name]) / one.num_units for one in groups]
    # One step back of one group is 1/20 of it.
    assert abs(shares[0] - shares[1]) <= 0.1


def test_equal_scores_keep_the_first_channels() -> None:
    groups = [group("one", 8)]
    scores = {"one": torch.ones(8, dtype=torch.float64)}
    found = allocate(groups, scores, chain_cost(groups), ratio=0.5, limits=Limits())
    assert found.kept["one"] == (0, 1, 2, 3)


def test_allowed_counts_respect_rounding_and_minimum_and_never_reach_zero() -> None:
    assert Limits(round_to=8).allowed(group("layer", 20)) == [8, 16, 20]
    assert Limits(min_channels=12, round_to=8).allowed(group("layer", 20)) == [16, 20]
    assert Limits(round_to=8).allowed(group("layer", 6)) == [6]
    assert Limits(round_to=8).allowed(group("layer", 6, unit_size=4)) == [2, 4, 6]


def test_a_ratio_that_would_empty_a_layer_names_it_and_the_limit() -> None:
    groups = [group("wide", 64), group("narrow", 4)]
    with pytest.raises(
        InputError,
        match=r"ratio is 0.99 and would leave layer 'narrow' fewer than 1 of its 4 channels: "
        r"expected at most 0\.\d+",
    ):
        check_reachable(groups, chain_cost(groups), ratio=0.99, limits=Limits())


def test_the_limit_in_the_message_can_be_used() -> None:
    groups = [group("wide", 64), group("narrow", 4)]
    with pytest.raises(InputError) as caught:
        check_reachable(groups, chain_cost(groups), ratio=0.99, limits=Limits())
    assert caught.value.expected is not None
    limit = float(caught.value.expected.removeprefix("at most "))
    check_reachable(groups, chain_cost(groups), ratio=limit, limits=Limits())


def test_nothing_to_remove_is_said_as_such() -> None:
    with pytest.raises(InputError, match=r"ratio is 0\.5: found no channels that may be removed"):
        check_reachable([], lambda _: 1.0, ratio=0.5, limits=Limits())


def test_scores_that_are_not_finite_are_refused() -> None:
    scores = {"one": torch.tensor([1.0, float("nan")], dtype=torch.float64)}
    groups = [group("one", 2)]
    with pytest.raises(StageError, match="scoring the channels of 'one': found NaN"):
        allocate(groups, scores, chain_cost(groups), ratio=0.2, limits=Limits())
