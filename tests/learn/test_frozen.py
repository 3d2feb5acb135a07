from __future__ import annotations

import torch
from torch import nn

from edgekit.core.registry import registry
from edgekit.learn.contracts import OUTPUT, Batch
from edgekit.learn.frozen import FrozenTeacher


class Counting(nn.Module):
    """Counts its calls; drops half of what it sees while training."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
        self.num_calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        return self.layers(x)


X = torch.randn(6, 3)


def ask(*indices: int) -> Batch:
    chosen = torch.tensor(indices)
    return Batch(inputs=(X[chosen],), labels=chosen, indices=chosen, step=0)


def test_answers_are_detached_and_in_eval_mode() -> None:
    model = Counting().train()
    teacher = FrozenTeacher(model)
    first, again = teacher(ask(0, 1))[OUTPUT], teacher(ask(0, 1))[OUTPUT]
    torch.testing.assert_close(first, again)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert int(model.layers[2].num_batches_tracked) == 0


def test_someone_elses_train_mode_does_not_reach_the_answers() -> None:
    model = Counting()
    teacher = FrozenTeacher(model)
    expected = teacher(ask(2, 3))[OUTPUT]
    model.train()
    torch.testing.assert_close(teacher(ask(2, 3))[OUTPUT], expected)


def test_answers_are_kept_when_samples_never_change() -> None:
    model = Counting()
    teacher = FrozenTeacher(model, remember=6)
    expected = [teacher(ask(0, 1, 2))[OUTPUT], teacher(ask(3, 4, 5))[OUTPUT]]
    found = teacher(ask(5, 0, 2))[OUTPUT]
    assert model.num_calls == 2
    torch.testing.assert_close(found, torch.cat(expected)[[5, 0, 2]])


def test_a_batch_with_one_new_sample_is_asked_again() -> None:
    model = Counting()
    teacher = FrozenTeacher(model, remember=6)
    teacher(ask(0, 1))
    teacher(ask(1, 2))
    assert model.num_calls == 2


def test_answers_are_not_kept_when_images_are_augmented() -> None:
    model = Counting()
    teacher = FrozenTeacher(model, remember=None)
    teacher(ask(0))
    teacher(ask(0))
    assert model.num_calls == 2


def test_taps_are_given_every_time() -> None:
    teacher = FrozenTeacher(Counting(), ("layers.0",), remember=6)
    teacher(ask(0, 1))
    assert set(teacher(ask(0, 1))) == {"layers.0", OUTPUT}


def test_every_teacher_opens_as_a_frozen_provider() -> None:
    for name in registry("teachers").names():
        provider = registry("teachers").get(name)().open(Counting(), (), remember=None)
        assert not provider(ask(0, 1))[OUTPUT].requires_grad
