from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgekit.compress.pruning.allocate import Limits
from edgekit.compress.pruning.contract import Importance
from edgekit.compress.pruning.cut import check_cut, edits_for, masked_copy
from edgekit.compress.pruning.groups import find_groups
from edgekit.compress.pruning.importance.l2 import L2
from edgekit.compress.pruning.importance.taylor import Taylor
from edgekit.compress.pruning.macs import count_layers, total_macs, total_params
from edgekit.compress.pruning.prune import Request, prune_module
from edgekit.core.errors import InputError, StageError
from edgekit.zoo.surgery import KeepChannels, replay
from tests.compress.networks import Mixed, Shifted, images, settled


def zeroed_filters(module: nn.Module, groups: object, kept: object, *, shift: bool) -> nn.Module:
    """Mask from the giving side: filters, biases, and (with `shift`) what normalisation adds."""
    masked = copy.deepcopy(module)
    for group in groups:
        gone = set(range(group.num_units)) - set(kept[group.name])
        for member in group.members:
            index = [channel for unit in gone for channel in member.indices[unit]]
            layer = masked.get_submodule(member.module)
            if member.kind == "in" or not index:
                continue
            is_norm = isinstance(layer, nn.BatchNorm2d)
            with torch.no_grad():
                if not is_norm or shift:
                    layer.weight[index] = 0.0
                    if layer.bias is not None:
                        layer.bias[index] = 0.0
    return masked


@pytest.mark.parametrize("importance", [L2(), Taylor(num_batches=2)])
@pytest.mark.parametrize("by", ["macs", "params", "channels"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_share_that_goes_is_what_was_asked_and_what_was_said(
    importance: Importance, by: str, scope: str
) -> None:
    model, x = settled(Mixed()), images()
    labels = torch.arange(3)
    pruned = prune_module(
        model,
        (x,),
        importance,
        Request(ratio=0.4, by=by, scope=scope),
        batches=lambda: [((x,), labels)] * 2,
    )
    found = pruned.allocation
    assert 0.4 - 1e-9 <= found.achieved <= 0.4 + found.step + 1e-9
    before, after = count_layers(model, (x,)), count_layers(pruned.module, (x,))
    real = {
        "macs": 1 - total_macs(after) / total_macs(before),
        "params": 1 - total_params(after) / total_params(before),
        "channels": 1
        - sum(row["after"] for row in pruned.layers())
        / sum(row["before"] for row in pruned.layers()),
    }[by]
    assert real == pytest.approx(found.achieved, abs=1e-9)


def test_ratio_zero_is_the_identity() -> None:
    model, x = settled(Mixed()), images()
    pruned = prune_module(model, (x,), L2(), Request(ratio=0.0))
    assert pruned.edits == ()
    assert torch.equal(pruned.module(x), model(x))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_a_cut_network_computes_what_the_masked_one_does(seed: int, data: st.DataObject) -> None:
    model, x = settled(Mixed(), seed=seed), images(seed=seed)
    groups = find_groups(model, (x,)).groups
    kept = {
        group.name: tuple(
            sorted(
                data.draw(
                    st.sets(
                        st.integers(0, group.num_units - 1), min_size=1, max_size=group.num_units
                    )
                )
            )
        )
        for group in groups
    }
    cut = copy.deepcopy(model)
    replay(cut, edits_for(groups, kept))
    with torch.no_grad():
        expected = zeroed_filters(model, groups, kept, shift=True)(x)
        # Float32 sums of at most 160 products, in another order.
        torch.testing.assert_close(cut(x), expected, atol=1e-5, rtol=1e-5)
    check_cut(cut, masked_copy(model, groups, kept), (x,))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid()])
def test_an_empty_filter_is_not_a_removed_channel_where_a_shift_follows(
    activation: nn.Module,
) -> None:
    model, x = settled(Shifted(activation=activation)), images()
    model.norm.bias.data.fill_(0.7)
    groups = find_groups(model, (x,)).groups
    kept = {group.name: tuple(range(group.num_units)) for group in groups} | {"first": (0, 2, 5)}
    cut = copy.deepcopy(model)
    replay(cut, edits_for(groups, kept))
    with torch.no_grad():
        only_filters = zeroed_filters(model, groups, kept, shift=False)(x)
        assert (cut(x) - only_filters).abs().max() > 1e-3
    # Columns of the reader, not filters of the giver: right even where f(0) is not 0.
    check_cut(cut, masked_copy(model, groups, kept), (x,))


def test_shapes_of_a_residual_sum_stay_consistent() -> None:
    model, x = settled(Mixed()), images()
    pruned = prune_module(model, (x,), L2(), Request(ratio=0.6))
    stem, body = (pruned.module.get_submodule(name) for name in ("stem.0", "body.0"))
    depthwise = pruned.module.get_submodule("depthwise.0")
    assert stem.out_channels == body.out_channels == body.in_channels == depthwise.groups
    assert pruned.module(x).shape == (3, 10)


def test_blocks_of_a_grouped_convolution_stay_equal() -> None:
    model, x = settled(Mixed()), images()
    pruned = prune_module(model, (x,), L2(), Request(ratio=0.7, by="channels"))
    grouped = pruned.module.get_submodule("grouped.0")
    assert grouped.groups == 4
    assert grouped.in_channels % 4 == grouped.out_channels % 4 == 0
    assert grouped.weight.shape[:2] == (grouped.out_channels, grouped.in_channels // 4)


def test_rounding_leaves_multiples_or_whole_layers() -> None:
    model, x = settled(Mixed()), images()
    request = Request(ratio=0.3, limits=Limits(round_to=4))
    for row in prune_module(model, (x,), L2(), request).layers():
        assert row["after"] % 4 == 0 or row["after"] == row["before"]


def test_the_model_given_is_left_as_it_is() -> None:
    model, x = settled(Mixed()), images()
    before = copy.deepcopy(model.state_dict())
    prune_module(model, (x,), L2(), Request(ratio=0.5))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_pruning_twice_gives_the_same_edits() -> None:
    model, x = settled(Mixed()), images()
    first, second = (prune_module(model, (x,), L2(), Request(ratio=0.5)) for _ in range(2))
    assert first.edits == second.edits


def test_a_ratio_out_of_reach_names_a_layer() -> None:
    model, x = settled(Mixed()), images()
    with pytest.raises(InputError, match=r"would leave layer 'merge.0' fewer than 1 of its 4"):
        prune_module(model, (x,), L2(), Request(ratio=0.999))


def test_an_operation_that_mixes_channels_unseen_is_caught() -> None:
    class Flipped(nn.Module):
        """Reads its channels in reverse order, which the tracing takes for elementwise."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.second(self.first(x).flip(1)).mean((2, 3))
            return scores

    model = settled(Flipped())
    with pytest.raises(StageError, match=r"against the masked one: found outputs that differ"):
        prune_module(model, (images(),), L2(), Request(ratio=0.15))


def test_a_forward_that_fixes_a_number_of_channels_is_caught() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x) + torch.ones(6, 1, 1)
            scores: torch.Tensor = self.second(x).mean((2, 3))
            return scores

    with pytest.raises(StageError, match=r"running the pruned model: found .*under `ignored`"):
        prune_module(settled(Fixed()), (images(),), L2(), Request(ratio=0.3))


def test_outputs_of_another_shape_are_caught() -> None:
    model = settled(Mixed())
    narrow = copy.deepcopy(model)
    replay(narrow, [KeepChannels(module="head", kind="out", keep=(0, 1))])
    with pytest.raises(StageError, match=r"found an output of shape \(3, 2\), expected \(3, 10\)"):
        check_cut(narrow, model, (images(),))


@pytest.mark.parametrize(
    ("kind", "keep"),
    [("out", (0, 1, 2)), ("in", (0, 1, 3)), ("in", (0, 1, 2, 5))],
)
def test_a_grouped_convolution_refuses_blocks_of_different_places(
    kind: str, keep: tuple[int, ...]
) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2))
    with pytest.raises(InputError, match=r"'0', a convolution in 2 groups: expected equally many"):
        replay(model, [KeepChannels(module="0", kind=kind, keep=keep)])
