from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.core.registry import registry
from edgekit.learn.losses.cross_entropy import CrossEntropy
from edgekit.learn.losses.kl import Kl
from edgekit.learn.losses.mse import Mse

BATCH, CLASSES = 3, 5
scores = arrays("float64", (BATCH, CLASSES), elements=st.floats(-8, 8)).map(torch.from_numpy)
temperatures = st.floats(0.5, 20)


@given(scores)
def test_every_comparison_of_equals_is_zero(z: torch.Tensor) -> None:
    for loss in (Kl(temperature=3), Mse(), Mse(reduction="batchmean")):
        assert float(loss(z, z)) == pytest.approx(0, abs=1e-12)


@given(scores, scores, temperatures)
def test_kl_is_never_negative(student: torch.Tensor, teacher: torch.Tensor, t: float) -> None:
    assert float(Kl(temperature=t)(student, teacher)) >= -1e-12


@given(scores, scores, temperatures)
def test_the_gradient_of_kl_is_t_times_the_difference_of_probabilities(
    student: torch.Tensor, teacher: torch.Tensor, t: float
) -> None:
    student = student.clone().requires_grad_()
    Kl(temperature=t)(student, teacher).backward()
    expected = t * (torch.softmax(student / t, -1) - torch.softmax(teacher / t, -1)) / BATCH
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-7, atol=1e-10)


@given(scores, scores)
def test_at_infinite_temperature_kl_is_half_the_variance_of_the_difference(
    student: torch.Tensor, teacher: torch.Tensor
) -> None:
    found = Kl(temperature=1e5)(student, teacher)
    expected = ((student - teacher).var(dim=1, correction=0) / 2).mean()
    # The next term of the series is smaller by the largest difference over T, below 2e-4.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@given(scores, scores, st.floats(-50, 50), st.floats(-50, 50))
def test_kl_does_not_see_a_constant_added_to_a_sample(
    student: torch.Tensor, teacher: torch.Tensor, a: float, b: float
) -> None:
    loss = Kl(temperature=4)
    torch.testing.assert_close(
        loss(student + a, teacher + b), loss(student, teacher), rtol=1e-7, atol=1e-10
    )


@given(scores, scores, temperatures)
def test_kl_is_cross_entropy_with_the_teacher_less_its_entropy(
    student: torch.Tensor, teacher: torch.Tensor, t: float
) -> None:
    p = torch.softmax(teacher / t, -1)
    cross_entropy = torch.nn.functional.cross_entropy(student / t, p)
    entropy = -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(
        Kl(temperature=t)(student, teacher),
        t * t * (cross_entropy - entropy),
        rtol=1e-7,
        atol=1e-8,
    )


def test_kl_averages_over_the_batch_and_not_over_classes() -> None:
    student, teacher = torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]])
    once = Kl()(student, teacher)
    assert Kl()(student.repeat(7, 1), teacher.repeat(7, 1)) == pytest.approx(float(once))
    p = torch.softmax(teacher, -1)
    assert float(once) == pytest.approx(float((p * (p * 4).log()).sum()))


def test_kl_in_half_precision_is_computed_in_float32() -> None:
    student = torch.tensor([[30.0, 0, 0]]).half()
    found = Kl(temperature=0.5)(student, student.flip(1))
    assert found.dtype is torch.float32
    assert bool(torch.isfinite(found))


@pytest.mark.parametrize("loss", [Kl(temperature=2), Mse(), Mse(reduction="batchmean")])
def test_autograd_agrees_with_central_differences(loss: Kl | Mse) -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher), (student,))


@given(st.floats(0, 0.9))
def test_label_smoothing_is_cross_entropy_with_smoothed_labels(s: float) -> None:
    torch.manual_seed(0)
    z, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 3, 4, 4])
    smooth = torch.nn.functional.one_hot(labels, 5) * (1 - s) + s / 5
    expected = -(smooth * torch.log_softmax(z, -1)).sum(-1).mean()
    torch.testing.assert_close(CrossEntropy(label_smoothing=s)(z, labels), expected)


def test_the_two_reductions_of_mse_differ_by_the_size_of_a_sample() -> None:
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    torch.testing.assert_close(Mse(reduction="batchmean")(a, b), 20 * Mse()(a, b))


@pytest.mark.parametrize("name", registry("losses").names())
def test_every_loss_gives_one_number(name: str) -> None:
    loss = registry("losses").get(name)()
    target = torch.tensor([0, 1]) if name == "cross-entropy" else torch.randn(2, 3)
    assert loss(torch.randn(2, 3), target).shape == ()
