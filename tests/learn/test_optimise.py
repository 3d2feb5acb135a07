from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgekit.core.errors import InputError
from edgekit.core.schema import Where, resolve_struct
from edgekit.learn.optimise import lr_factor, make_optimizer
from edgekit.learn.options import Training

schedules = st.sampled_from(["one-cycle", "cosine", "constant"])


@given(schedules, st.floats(0, 1))
def test_the_factor_is_a_share(schedule: str, progress: float) -> None:
    assert 0 <= lr_factor(schedule, progress) <= 1


@given(st.sampled_from(["one-cycle", "cosine"]))
def test_falling_schedules_end_at_zero(schedule: str) -> None:
    assert lr_factor(schedule, 1.0) == pytest.approx(0, abs=1e-12)


def test_one_cycle_rises_and_then_falls() -> None:
    values = [lr_factor("one-cycle", step / 100) for step in range(101)]
    top = values.index(max(values))
    assert values[top] == pytest.approx(1)
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)
    assert values[0] < 0.1


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = make_optimizer(model, [], Training(optimizer=name, lr=0.01, weight_decay=0.1))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decay[id(model[0].weight)] == 0.1
    assert [decay[id(p)] for p in (model[0].bias, model[1].weight, model[1].bias)] == [0, 0, 0]


def test_adapters_are_trained_and_frozen_weights_are_not() -> None:
    model, adapter = nn.Linear(3, 3), nn.Linear(3, 3)
    model.weight.requires_grad_(requires_grad=False)
    optimizer = make_optimizer(model, adapter.parameters(), Training())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(model.bias), id(adapter.weight), id(adapter.bias)}


def test_without_momentum_sgd_is_plain_descent() -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    options = Training(momentum=0, weight_decay=0, lr=0.5)
    optimizer = make_optimizer(model, [], options)
    model(torch.tensor([[1.0, 2.0]])).backward()
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before - 0.5 * torch.tensor([[1.0, 2.0]]))


def test_a_learning_rate_meant_for_sgd_is_refused_with_adamw() -> None:
    with pytest.raises(InputError, match=r"adamw: found 0.5, expected at most 0.1.*0.002"):
        resolve_struct({"optimizer": "adamw", "lr": 0.5}, Training, Where())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1}, "lr is -1"),
        ({"optimizer": "adam"}, "optimizer is 'adam'"),
        ({"augment": {"shift": -1}}, r"augment.shift is -1"),
        ({"lerning_rate": 1}, "unknown option 'lerning_rate'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_struct(options, Training, Where())
