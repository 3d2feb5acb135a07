from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgekit.core.errors import InputError
from edgekit.zoo.surgery import KeepChannels, Surgery, read_surgery, replay, write_surgery


def cut(module: nn.Module, kind: str, keep: tuple[int, ...]) -> None:
    replay(nn.Sequential(module), [KeepChannels(module="0", kind=kind, keep=keep)])


def masked(width: int, keep: tuple[int, ...]) -> torch.Tensor:
    mask = torch.zeros(width)
    mask[list(keep)] = 1
    return mask


keeps = st.sets(st.integers(0, 7), min_size=1).map(sorted).map(tuple)


@given(keep=keeps)
def test_cutting_outputs_is_selecting_them(keep: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for layer, x in (
        (nn.Conv2d(3, 8, 3), torch.randn(2, 3, 5, 5)),
        (nn.Linear(4, 8), torch.randn(2, 4)),
    ):
        before = layer(x)
        cut(layer, "out", keep)
        torch.testing.assert_close(layer(x), before[:, list(keep)])


@given(keep=keeps)
def test_cutting_inputs_is_feeding_zeros_to_the_others(keep: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for layer, x in (
        (nn.Conv2d(8, 3, 3), torch.randn(2, 8, 5, 5)),
        (nn.Linear(8, 3), torch.randn(2, 8)),
    ):
        mask = masked(8, keep).reshape(-1, *[1] * (x.ndim - 2))
        before = layer(x * mask)
        cut(layer, "in", keep)
        torch.testing.assert_close(layer(x[:, list(keep)]), before)


@given(keep=keeps, kind=st.sampled_from(["in", "out"]))
def test_channelwise_modules_are_cut_once_for_both_sides(keep: tuple[int, ...], kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 5)
    norm = nn.BatchNorm2d(8)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    for layer in (nn.Conv2d(8, 8, 3, groups=8), norm.eval()):
        before = layer(x)[:, list(keep)]
        cut(layer, kind, keep)
        torch.testing.assert_close(layer(x[:, list(keep)]), before)


def test_attributes_state_the_new_sizes() -> None:
    conv, depthwise = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8)
    linear, norm, layer_norm = nn.Linear(8, 4), nn.BatchNorm2d(8), nn.LayerNorm(8)
    for module, kind in (
        (conv, "out"),
        (depthwise, "out"),
        (linear, "in"),
        (norm, "out"),
        (layer_norm, "out"),
    ):
        cut(module, kind, (1, 6))
    assert (conv.in_channels, conv.out_channels, conv.bias.shape) == (4, 2, (2,))
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (2, 2, 2)
    assert (linear.in_features, linear.out_features, linear.bias.shape) == (2, 4, (4,))
    assert (norm.num_features, norm.running_var.shape) == (2, (2,))
    assert layer_norm.normalized_shape == (2,)


def test_parameters_stay_parameters_and_frozen_ones_frozen() -> None:
    linear = nn.Linear(4, 4)
    linear.weight.requires_grad_(requires_grad=False)
    cut(linear, "out", (0,))
    assert isinstance(linear.weight, nn.Parameter)
    assert not linear.weight.requires_grad
    assert linear.bias.requires_grad


def test_edits_survive_json(tmp_path: Path) -> None:
    edits = (
        KeepChannels(module="a.b", kind="out", keep=(0, 3)),
        KeepChannels(module="c", kind="in", keep=(1,)),
    )
    write_surgery(tmp_path, edits)
    assert read_surgery(tmp_path) == edits


def test_json_names_edit_and_version() -> None:
    edit = KeepChannels(module="a", kind="in", keep=(1,))
    assert json.loads(msgspec.json.encode(Surgery(edits=(edit,)))) == {
        "schema": 1,
        "edits": [
            {"edit": "keep-channels", "version": 1, "module": "a", "kind": "in", "keep": [1]}
        ],
    }


def test_an_unknown_module_is_refused_with_the_nearest_name() -> None:
    edit = KeepChannels(module="block1.cnov", kind="out", keep=(0,))
    model = nn.Sequential()
    model.add_module("block1", nn.Sequential())
    model.block1.add_module("conv", nn.Conv2d(1, 2, 1))
    with pytest.raises(InputError, match=r"edit 0: the model has no module.*'block1.conv'"):
        replay(model, [edit])


def test_keeping_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"'0' would keep no channel: expected at least one"):
        cut(nn.Linear(4, 4), "out", ())


@pytest.mark.parametrize("keep", [(1, 0), (1, 1)])
def test_order_and_repetition_are_refused(keep: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="ascending numbers, each once"):
        cut(nn.Linear(4, 4), "out", keep)


@pytest.mark.parametrize("keep", [(0, 4), (-1, 2)])
def test_channels_that_are_not_there_are_refused(keep: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"found .* expected numbers from 0 to 3"):
        cut(nn.Linear(4, 4), "out", keep)


def test_modules_without_channels_are_refused() -> None:
    with pytest.raises(InputError, match=r"'0' is a ReLU"):
        cut(nn.ReLU(), "out", (0,))


def test_grouped_convolutions_keep_equally_many_of_each_group() -> None:
    with pytest.raises(InputError, match=r"convolution in 2 groups"):
        cut(nn.Conv2d(4, 4, 3, groups=2), "out", (0, 1, 2))
    x = torch.randn(1, 4, 5, 5)
    layer = nn.Conv2d(4, 4, 3, groups=2)
    before = layer(x)
    cut(layer, "out", (0, 3))
    torch.testing.assert_close(layer(x), before[:, [0, 3]])
