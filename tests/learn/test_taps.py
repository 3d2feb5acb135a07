from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.core.errors import InputError
from edgekit.learn.contracts import OUTPUT
from edgekit.learn.taps import TapRecorder, first_tensor, tap_shapes


class Twice(nn.Module):
    """Runs `shared` twice and `idle` never."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.idle = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shared(self.shared(x))


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))


def test_taps_are_the_outputs_of_the_named_modules(model: nn.Sequential) -> None:
    x = torch.randn(5, 3)
    taps = TapRecorder(model, ["0", "2.0"])((x,))
    torch.testing.assert_close(taps["0"], model[0](x))
    torch.testing.assert_close(taps["2.0"], taps[OUTPUT])


def test_taps_carry_gradients(model: nn.Sequential) -> None:
    TapRecorder(model, ["0"])((torch.randn(5, 3),))["0"].sum().backward()
    assert model[0].weight.grad is not None


def test_nothing_stays_attached_to_the_model(model: nn.Sequential) -> None:
    recorder = TapRecorder(model, ["0"])
    recorder((torch.randn(5, 3),))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        recorder((torch.randn(5, 9),))
    assert not model[0]._forward_hooks


def test_shapes_of_taps_are_per_sample(model: nn.Sequential) -> None:
    model.train()
    found = tap_shapes(TapRecorder(model, ["0"]), model, (torch.randn(5, 3),))
    assert found == {"0": (4,), OUTPUT: (2,)}
    assert model.training


def test_an_unknown_module_is_refused_with_the_nearest_name(model: nn.Sequential) -> None:
    model.add_module("classifier", nn.ReLU())
    with pytest.raises(InputError, match=r"no module 'clasifier'.*'classifier'"):
        TapRecorder(model, ["clasifier"])


def test_a_module_that_does_not_run_is_refused() -> None:
    with pytest.raises(InputError, match=r"tap 'idle': found a module that does not run"):
        TapRecorder(Twice(), ["idle"])((torch.randn(1, 3),))


def test_a_module_that_runs_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"tap 'shared': found a module that runs more than once"):
        TapRecorder(Twice(), ["shared"])((torch.randn(1, 3),))


def test_the_first_tensor_of_tuples_and_mappings_counts() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert first_tensor((a, b), "it") is a
    assert first_tensor({"logits": b, "state": a}, "it") is b
    with pytest.raises(InputError, match=r"result of it: found str, expected a tensor"):
        first_tensor("text", "it")
