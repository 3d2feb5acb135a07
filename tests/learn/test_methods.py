from __future__ import annotations

import pytest
import torch

from edgekit.core.errors import InputError
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_struct, to_plain
from edgekit.learn.contracts import OUTPUT, Batch
from edgekit.learn.methods.kd import Kd

NAMES = registry("methods").names()
SHAPES = {OUTPUT: (5,)}


def batch(size: int) -> Batch:
    return Batch(
        inputs=(torch.randn(size, 3),),
        labels=torch.zeros(size, dtype=torch.int64),
        indices=torch.arange(size),
        step=0,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_student_equal_to_its_teacher_costs_nothing_and_teaches_nothing_to_it(name: str) -> None:
    method = registry("methods").get(name)()
    terms = method.build(SHAPES, SHAPES)
    z = torch.randn(4, 5, dtype=torch.float64)
    student, teacher = z.clone().requires_grad_(), z.clone().requires_grad_()
    found = terms({OUTPUT: student}, {OUTPUT: teacher.detach()}, batch(4))
    total = torch.stack(list(found.values())).sum()
    total.backward()
    assert float(total.detach()) == pytest.approx(0, abs=1e-12)
    assert teacher.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_options_survive_being_written_out(name: str) -> None:
    method = registry("methods").get(name)()
    assert resolve_struct(to_plain(method), type(method), Where()) == method


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_what_it_needs_and_what_it_leaves_to_labels(name: str) -> None:
    method = registry("methods").get(name)()
    assert 0 <= method.hard_label_weight <= 1
    assert isinstance(method.student_taps, tuple)
    assert isinstance(method.teacher_taps, tuple)
    assert "Source:" in (type(method).__doc__ or "")


def test_kd_weighs_its_term_and_leaves_the_rest_to_labels() -> None:
    student, teacher = torch.zeros(2, 5), torch.randn(2, 5)
    whole, part = (
        Kd(weight=w).build(SHAPES, SHAPES)({OUTPUT: student}, {OUTPUT: teacher}, batch(2))["kd"]
        for w in (1.0, 0.3)
    )
    torch.testing.assert_close(part, 0.3 * whole)
    assert Kd(weight=0.3).hard_label_weight == pytest.approx(0.7)


def test_kd_softens_student_and_teacher_alike() -> None:
    z = torch.randn(2, 5)
    terms = Kd(temperature=7).build(SHAPES, SHAPES)
    assert float(terms({OUTPUT: z}, {OUTPUT: z}, batch(2))["kd"]) == pytest.approx(0, abs=1e-6)


def test_kd_refuses_other_numbers_of_classes() -> None:
    with pytest.raises(InputError, match=r"student output \(5,\), teacher output \(7,\)"):
        Kd().build(SHAPES, {OUTPUT: (7,)})


@pytest.mark.parametrize("options", [{"temperature": 0}, {"weight": 1.5}])
def test_kd_refuses_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(options))} is"):
        resolve_struct(options, Kd, Where())
