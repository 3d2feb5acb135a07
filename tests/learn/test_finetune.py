from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.core.errors import InputError, StageError
from edgekit.core.schema import Where, resolve_struct
from edgekit.core.stage import StageContext
from edgekit.learn.contracts import TrainingHook
from edgekit.learn.evaluate import predict
from edgekit.learn.finetune import FineTune, fine_tune, teach
from edgekit.learn.methods.kd import Kd
from edgekit.learn.options import Augment, Training
from edgekit.learn.state import LoopState
from edgekit.learn.teachers.input import Input
from edgekit.zoo.surgery import AnyEdit, KeepChannels

QUICK = Training(epochs=2, batch_size=50, lr=0.1)


def mlp(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def convnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4, stride=2),
        nn.Flatten(),
        nn.Linear(36, 10),
    )


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in module.state_dict().values()])


def test_digits_are_learned_within_seconds(context: Callable[..., StageContext]) -> None:
    ctx, module = context(), mlp()
    outcome = teach(module, ctx, Training(epochs=12, batch_size=32, lr=0.1))
    test = ctx.data.test
    guesses = predict(module, test.inputs, ["image"]).argmax(1)
    assert np.mean(guesses == test.labels) > 0.9
    assert outcome.warnings == ()
    assert not module.training


@pytest.mark.parametrize("augment", [Augment(), Augment(shift=1, flip=True)])
def test_training_twice_gives_the_same_bits(
    augment: Augment, context: Callable[..., StageContext]
) -> None:
    ctx = context()
    options = Training(epochs=2, batch_size=50, lr=0.05, augment=augment)
    first, again = convnet(), convnet()
    mine = teach(first, ctx, options)
    torch.rand(7)  # chance outside must not matter
    theirs = teach(again, ctx, options)
    assert torch.equal(weights(first), weights(again))
    assert mine == theirs


def test_another_seed_gives_another_order(context: Callable[..., StageContext]) -> None:
    first, other = mlp(), mlp()
    teach(first, context(seed=0), QUICK)
    teach(other, context(seed=1, folder="b"), QUICK)
    assert not torch.equal(weights(first), weights(other))


def test_the_best_epoch_is_kept(context: Callable[..., StageContext]) -> None:
    class Spoil(TrainingHook):
        """Ruins the model in the last epoch."""

        def epoch(self, state: LoopState) -> None:
            if state.epoch == 3:
                nn.init.zeros_(state.model[3].weight)

    ctx, module = context(), mlp()
    options = Training(epochs=3, batch_size=50, lr=0.1)
    outcome = teach(module, ctx, options, hooks=[Spoil()])
    assert outcome.best_epoch < 3
    best = outcome.records[outcome.best_epoch - 1]
    guesses = predict(module, ctx.data.validation.inputs, ["image"]).argmax(1)
    assert np.mean(guesses == ctx.data.validation.labels) == pytest.approx(best.validation)


def test_the_test_split_is_never_touched(context: Callable[..., StageContext]) -> None:
    ctx = context()

    class Blind:
        train, validation = ctx.data.train, ctx.data.validation
        signature = staticmethod(ctx.data.signature)

    teach(mlp(), context(data=Blind(), folder="b"), QUICK)


def test_diverging_training_names_epoch_step_term_and_remedy(
    context: Callable[..., StageContext],
) -> None:
    class Break(TrainingHook):
        """Makes a weight NaN after the third step."""

        def after_step(self, state: LoopState) -> None:
            if state.step == 3:
                state.model[1].weight.data[0, 0] = float("nan")

    with pytest.raises(
        StageError, match=r"diverged in epoch 1, step 4, term 'labels': found nan.*Lower lr"
    ):
        teach(mlp(), context(), QUICK, hooks=[Break()])


def test_a_huge_learning_rate_diverges_with_a_hint(context: Callable[..., StageContext]) -> None:
    options = Training(epochs=3, lr=10.0, batch_size=50, momentum=0.99, schedule="constant")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))
    with pytest.raises(StageError, match=r"training diverged in epoch .*it is 10 at most"):
        teach(linear, context(), options)


def test_outputs_that_break_between_epochs_are_found(context: Callable[..., StageContext]) -> None:
    class Break(TrainingHook):
        """Makes a weight infinite at the end of an epoch."""

        def epoch(self, state: LoopState) -> None:
            state.model[3].bias.data[0] = float("inf")

    with pytest.raises(StageError, match=r"epoch 1, on the validation split"):
        teach(mlp(), context(), QUICK, hooks=[Break()])


def test_a_model_that_learned_nothing_is_reported(context: Callable[..., StageContext]) -> None:
    class Undo(TrainingHook):
        """Takes every step back."""

        def after_step(self, state: LoopState) -> None:
            nn.init.zeros_(state.model[3].weight)
            nn.init.zeros_(state.model[3].bias)

    outcome = teach(mlp(), context(), QUICK, hooks=[Undo()])
    assert "taught the model nothing" in outcome.warnings[0]


def test_hooks_are_called_in_order_and_their_surgery_is_returned(
    context: Callable[..., StageContext],
) -> None:
    calls: list[str] = []
    edit = KeepChannels(module="1", kind="out", keep=(0,))

    class Note(TrainingHook):
        """Writes down what happens."""

        def start(self, state: LoopState) -> None:
            calls.append(f"start {state.num_steps}")

        def before_step(self, state: LoopState) -> None:
            assert state.model[1].weight.grad is not None
            calls.append("before")

        def after_step(self, state: LoopState) -> None:
            calls.append(f"after {state.step}")

        def epoch(self, state: LoopState) -> None:
            calls.append(f"epoch {state.epoch}")

        def finalize(self, model: nn.Module) -> tuple[AnyEdit, ...]:
            calls.append("finalize")
            return (edit,)

    outcome = teach(
        mlp(), context(), Training(epochs=2, batch_size=500), hooks=[Note(), TrainingHook()]
    )
    epochs = [["before", f"after {2 * e + 1}", "before", f"after {2 * e + 2}"] for e in (0, 1)]
    assert calls == ["start 4", *epochs[0], "epoch 1", *epochs[1], "epoch 2", "finalize"]
    assert outcome.edits == (edit,)


def test_an_interruption_leaves_no_setting_behind(context: Callable[..., StageContext]) -> None:
    class Stop(TrainingHook):
        """Presses Ctrl-C in the second step."""

        def after_step(self, state: LoopState) -> None:
            if state.step == 2:
                raise KeyboardInterrupt

    ctx = context(num_threads=2)
    with pytest.raises(KeyboardInterrupt):
        teach(mlp(), ctx, QUICK, hooks=[Stop()])
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert list(ctx.workdir.iterdir()) == []


def test_progress_counts_every_step_and_shows_the_loss(
    context: Callable[..., StageContext],
) -> None:
    seen: list[dict[str, float]] = []

    class Watch:
        """Counts, as a progress and as its task."""

        def start(self, name: str, total: int | None = None, unit: str = "") -> Watch:
            assert (name, total, unit) == ("train", 4, "step")
            return self

        def advance(self, amount: int = 1, **figures: float) -> None:
            assert amount == 1
            seen.append(figures)

        def __enter__(self) -> Watch:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    teach(mlp(), context(progress=Watch()), Training(epochs=2, batch_size=500))
    assert [set(figures) for figures in seen] == [{"loss"}] * 2 + [{"loss", "validation"}] * 2


def test_the_teacher_does_not_move(context: Callable[..., StageContext]) -> None:
    teacher = convnet(1)
    before = copy.deepcopy(teacher.state_dict())
    options = FineTune(epochs=1, batch_size=50, teacher=Input(), methods=(Kd(),))
    fine_tune(convnet(0), teacher, context(), options)
    after = teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_teacher_alone_can_teach(context: Callable[..., StageContext]) -> None:
    ctx, teacher, student = context(), mlp(1), mlp(2)
    teach(teacher, ctx, Training(epochs=8, batch_size=50, lr=0.1))
    options = FineTune(epochs=8, batch_size=50, lr=0.05, teacher=Input(), methods=(Kd(weight=1.0),))
    outcome = fine_tune(student, teacher, ctx, options)
    assert set(outcome.records[0].terms) == {"kd"}
    theirs, mine = (
        predict(m, ctx.data.test.inputs, ["image"]).argmax(1) for m in (teacher, student)
    )
    assert np.mean(theirs == mine) > 0.9


def test_terms_are_reported_and_add_up(context: Callable[..., StageContext]) -> None:
    options = FineTune(
        epochs=1, batch_size=100, teacher=Input(), methods=(Kd(), Kd(temperature=1, weight=0.5))
    )
    record = fine_tune(mlp(0), mlp(1), context(), options).records[0]
    assert set(record.terms) == {"labels", "kd", "kd#2"}
    assert sum(record.terms.values()) == pytest.approx(record.loss)


def test_methods_share_the_labels_by_the_lowest_weight(
    context: Callable[..., StageContext],
) -> None:
    ctx = context()
    alone, both = (
        fine_tune(
            mlp(0), mlp(1), ctx, FineTune(epochs=1, batch_size=1000, teacher=Input(), methods=m)
        ).records[0]
        for m in ((Kd(weight=0.9),), (Kd(weight=0.9), Kd(weight=0.2)))
    )
    assert both.terms["labels"] == pytest.approx(alone.terms["labels"])


def test_fine_tuning_without_a_teacher_is_training(context: Callable[..., StageContext]) -> None:
    first, again = mlp(), mlp()
    fine_tune(first, None, context(), FineTune(epochs=1, batch_size=50, lr=0.1))
    teach(again, context(folder="b"), Training(epochs=1, batch_size=50, lr=0.1))
    assert torch.equal(weights(first), weights(again))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "input"}, r"a teacher is named, but no method.*methods: \[kd\]"),
        ({"methods": ["kd"]}, r"methods are named, but no teacher.*teacher: input"),
        ({"teacher": "inptu", "methods": ["kd"]}, r"unknown teacher 'inptu'.*'input'"),
        ({"teacher": "input", "methods": ["dk"]}, r"methods\[0\]: unknown method 'dk'"),
        ({"teacher": "input", "methods": [{"kd": {"weight": 2}}]}, r"'kd'.weight is 2"),
    ],
)
def test_recipes_that_do_not_fit_together_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        resolve_struct(options, FineTune, Where())


def test_a_recipe_names_teacher_and_methods() -> None:
    found = resolve_struct(
        {"epochs": 3, "teacher": "input", "methods": [{"kd": {"temperature": 2}}]},
        FineTune,
        Where(),
    )
    assert found == FineTune(epochs=3, teacher=Input(), methods=(Kd(temperature=2.0),))


def test_a_teacher_of_another_size_is_refused(context: Callable[..., StageContext]) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    options = FineTune(epochs=1, teacher=Input(), methods=(Kd(),))
    with pytest.raises(InputError, match=r"student output \(10,\), teacher output \(7,\)"):
        fine_tune(mlp(), other, context(), options)


def test_a_forgotten_teacher_is_our_own_mistake(context: Callable[..., StageContext]) -> None:
    with pytest.raises(ValueError, match="teacher_module is needed"):
        fine_tune(mlp(), None, context(), FineTune(teacher=Input(), methods=(Kd(),)))


def test_a_lower_is_better_metric_keeps_the_lowest(context: Callable[..., StageContext]) -> None:
    class Errors:
        """Counts wrong answers; stands in for a metric that falls."""

        better, unit = "lower", ""

        def compute(self, outputs: np.ndarray, labels: np.ndarray) -> float:
            return float(np.sum(outputs.argmax(1) != labels))

    from edgekit.learn.loop import Loop
    from edgekit.learn.objective import make_objective
    from edgekit.learn.tensors import to_tensors

    ctx, module = context(), mlp()
    train = to_tensors(ctx.data.train, ("image",))
    loop = Loop(
        train=train,
        validation=to_tensors(ctx.data.validation, ("image",)),
        options=Training(epochs=4, batch_size=50, lr=0.1),
        objective=make_objective(module, lesson=None, probe=(), label_smoothing=0.1, remember=None),
        metric=Errors(),
        seed=0,
        progress=ctx.progress,
    )
    state, _ = loop.run(module)
    assert state.records[state.best_epoch - 1].validation == min(
        record.validation for record in state.records
    )


def test_details_are_plain_data(context: Callable[..., StageContext]) -> None:
    details = teach(mlp(), context(), Training(epochs=1, batch_size=500)).details()
    assert details["best_epoch"] == 1
    assert details["validation_metric"] == "top-1"
    assert set(details["epochs"][0]) == {
        "epoch",
        "lr",
        "loss",
        "terms",
        "validation",
        "validation_loss",
    }
