from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.compress.pruning.groups import Coupling, Group, find_groups
from edgekit.core.errors import InputError
from tests.compress.networks import Mixed, conv_norm, images, settled


@pytest.fixture(scope="module")
def coupling() -> Coupling:
    return find_groups(settled(Mixed()), (images(),))


def group(coupling: Coupling, name: str) -> Group:
    return next(found for found in coupling.groups if found.name == name)


def sides(found: Group) -> set[tuple[str, str]]:
    return {(member.module, member.kind) for member in found.members}


def test_a_sum_couples_both_of_its_sides_and_the_depthwise_layer_behind(coupling: Coupling) -> None:
    assert sides(group(coupling, "stem.0")) == {
        ("stem.0", "out"),
        ("stem.1", "out"),
        ("body.0", "in"),
        ("body.0", "out"),
        ("body.1", "out"),
        ("depthwise.0", "out"),
        ("depthwise.1", "out"),
        ("grouped.0", "in"),
    }


def test_blocks_of_a_grouped_convolution_lose_channels_at_the_same_places(
    coupling: Coupling,
) -> None:
    found = group(coupling, "grouped.0")
    assert (found.unit_size, found.num_units) == (4, 4)
    assert found.members[0].indices[1] == (1, 5, 9, 13)


def test_concatenated_layers_are_groups_of_their_own_with_an_offset(coupling: Coupling) -> None:
    right = group(coupling, "right.0")
    merge = next(member for member in right.members if member.module == "merge.0")
    assert (merge.kind, merge.width, merge.indices[0]) == ("in", 16, (6,))
    assert sides(group(coupling, "left.0")) == {
        ("left.0", "out"),
        ("left.1", "out"),
        ("merge.0", "in"),
    }


def test_a_flattened_map_gives_one_column_per_pixel(coupling: Coupling) -> None:
    found = group(coupling, "merge.0")
    linear = next(member for member in found.members if member.module == "hidden")
    assert linear.indices[1] == tuple(range(16, 32))


def test_no_channel_is_in_two_groups(coupling: Coupling) -> None:
    seen: set[tuple[str, str, int]] = set()
    for found in coupling.groups:
        for member in found.members:
            for index in (index for unit in member.indices for index in unit):
                key = (member.module, member.kind, index)
                assert key not in seen
                seen.add(key)


def test_groups_come_in_the_order_of_the_layers(coupling: Coupling) -> None:
    names = [found.name for found in coupling.groups]
    assert names == ["stem.0", "grouped.0", "left.0", "right.0", "merge.0", "hidden"]


def test_the_layer_that_gives_the_output_is_untouched(coupling: Coupling) -> None:
    assert coupling.untouched == {"head": "reaches the model's output"}


def test_a_sum_into_the_output_protects_all_its_sides() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.one(x) + self.two(x)
            return scores

    coupling = find_groups(Last(), (torch.randn(2, 4),))
    assert not coupling.groups
    assert list(coupling.untouched.values()) == ["reaches the model's output"]


def test_an_inner_value_that_is_also_an_output_protects_its_group() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            inner = self.first(x).relu()
            return self.second(inner), inner

    coupling = find_groups(Two(), (torch.randn(2, 4),))
    assert not coupling.groups
    assert coupling.untouched["first"] == "reaches the model's output"


@pytest.mark.parametrize("pattern", ["grouped", "grouped.0", "group*"])
def test_an_ignored_layer_keeps_its_channels(pattern: str) -> None:
    coupling = find_groups(settled(Mixed()), (images(),), ignored=[pattern])
    assert "grouped.0" not in {found.name for found in coupling.groups}
    assert "ignored" in coupling.untouched["grouped.0"]


def test_ignoring_one_side_of_a_sum_protects_the_other() -> None:
    coupling = find_groups(settled(Mixed()), (images(),), ignored=["body"])
    assert coupling.untouched["stem.0"] == "'body.0' is ignored"


def test_an_unknown_pattern_offers_the_nearest_module() -> None:
    with pytest.raises(InputError, match=r"no module matches 'grouepd'.*Did you mean 'grouped'"):
        find_groups(Mixed(), (images(),), ignored=["grouepd"])


def test_a_layer_norm_on_the_way_protects_the_group() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.Linear(5, 3))
    coupling = find_groups(model, (torch.randn(2, 4),))
    assert [found.name for found in coupling.groups] == ["2"]
    assert "LayerNorm" in coupling.untouched["0"]


def test_a_raw_parameter_on_the_way_protects_the_group() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
            self.gain = nn.Parameter(torch.randn(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.second(self.first(x) * self.gain)
            return scores

    coupling = find_groups(Scaled(), (torch.randn(2, 4),))
    assert not coupling.groups
    assert "a raw parameter" in coupling.untouched["first"]


def test_attention_keeps_the_size_of_its_heads() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(6, 8) for _ in range(3))
            self.join = nn.Linear(8, 6)
            self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = (self.query, self.key, self.value)
            q, k, v = (part(x).view(*x.shape[:2], 2, 4).transpose(1, 2) for part in parts)
            mixed = (q @ k.transpose(2, 3)).softmax(-1) @ v
            joined = self.join(mixed.transpose(1, 2).reshape(*x.shape[:2], 8))
            scores: torch.Tensor = self.down(self.up(joined).relu())
            return scores

    coupling = find_groups(Attention(), (torch.randn(2, 5, 6),))
    assert [found.name for found in coupling.groups] == ["join", "up"]
    assert "product of activations" in coupling.untouched["query"]


def test_a_layer_used_twice_protects_its_group() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.head(self.again(self.again(self.first(x)).relu()))
            return scores

    coupling = find_groups(Twice(), (torch.randn(2, 4),))
    assert not coupling.groups
    assert "more than once" in " ".join(coupling.untouched.values())


def test_blocks_that_a_concatenation_splits_are_left_alone() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = conv_norm(1, 3), conv_norm(1, 5)
            self.grouped = conv_norm(8, 8, groups=2)
            self.head = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.grouped(torch.cat([self.one(x), self.two(x)], 1))
            scores: torch.Tensor = self.head(x.mean((2, 3)))
            return scores

    coupling = find_groups(settled(Split()), (images(),))
    assert [found.name for found in coupling.groups] == ["grouped.0"]
    assert "don't line up" in coupling.untouched["one.0"]


def test_tracing_works_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert find_groups(settled(Mixed()), (images(),)).groups
