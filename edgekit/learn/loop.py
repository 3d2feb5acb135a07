"""The training loop: steps, hooks, a judgement after each epoch, the best epoch kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgekit.core.errors import StageError
from edgekit.core.progress import Progress, Task
from edgekit.learn.augment import augment_images
from edgekit.learn.contracts import Batch, TrainingHook
from edgekit.learn.evaluate import predict_split
from edgekit.learn.layout import arranged, memory_format_for
from edgekit.learn.losses.cross_entropy import CrossEntropy
from edgekit.learn.objective import Objective
from edgekit.learn.optimise import lr_factor, make_optimizer, set_lr
from edgekit.learn.options import Augment, Training
from edgekit.learn.state import EpochRecord, LoopState
from edgekit.learn.tensors import TensorSplit, num_batches, shuffled

if TYPE_CHECKING:
    from edgekit.data.contracts import MetricFunction
    from edgekit.zoo.surgery import AnyEdit


@dataclass(frozen=True, kw_only=True, eq=False)
class Loop:
    """Everything a training run needs besides the model.

    Attributes:
        train: samples to learn from.
        validation: samples that choose the epoch; never those the result is reported on.
        options: how to train.
        objective: what to minimise.
        metric: what the validation split is judged by.
        seed: of the sample order and of augmentation.
        progress: where to report.
        hooks: who takes part, in this order.
    """

    train: TensorSplit
    validation: TensorSplit
    options: Training
    objective: Objective
    metric: MetricFunction
    seed: int
    progress: Progress
    hooks: Sequence[TrainingHook] = ()

    def run(self, model: nn.Module) -> tuple[LoopState, tuple[AnyEdit, ...]]:
        """Train `model` in place and leave it in eval mode with the best epoch's weights.

        Returns:
            The final state, and the surgery that hooks did.

        Raises:
            StageError: The loss or the model's outputs stop being finite.
        """
        state = self._start(model)
        for hook in self.hooks:
            hook.start(state)
        with self.progress.start("train", total=state.num_steps, unit="step") as task:
            for _ in range(self.options.epochs):
                self._epoch(state, task)
        model.load_state_dict(state.best_weights)
        edits = tuple(edit for hook in self.hooks for edit in hook.finalize(model))
        _arrange_plainly(model)
        model.eval().zero_grad(set_to_none=True)
        return state, edits

    def _start(self, model: nn.Module) -> LoopState:
        memory_format = memory_format_for(model)
        model.to(memory_format=memory_format)  # type: ignore[call-overload]
        steps = num_batches(len(self.train), self.options.batch_size)
        return LoopState(
            model=model,
            optimizer=make_optimizer(model, self.objective.adapters(), self.options),
            generator=torch.Generator().manual_seed(self.seed),
            num_steps=steps * self.options.epochs,
            memory_format=memory_format,
        )

    def _epoch(self, state: LoopState, task: Task) -> None:
        state.epoch += 1
        state.model.train()
        sums: dict[str, float] = {}
        first = state.step
        for indices in shuffled(len(self.train), self.options.batch_size, state.generator):
            for name, value in self._step(state, indices).items():
                sums[name] = sums.get(name, 0.0) + value
            loss = sum(sums.values()) / (state.step - first)
            task.advance(1, loss=loss, **self._judged(state))
        for hook in self.hooks:
            hook.epoch(state)
        means = {name: value / (state.step - first) for name, value in sums.items()}
        record = self._judge(state, means)
        state.keep_best(record, is_better=self._is_better(record, state))

    def _step(self, state: LoopState, indices: torch.Tensor) -> dict[str, float]:
        lr = self.options.lr * lr_factor(self.options.schedule, state.step / state.num_steps)
        set_lr(state.optimizer, lr)
        inputs, labels = self.train.take(indices)
        inputs = _augmented(inputs, self.options.augment, state.generator)
        inputs = arranged(inputs, state.memory_format)
        batch = Batch(inputs=inputs, labels=labels, indices=indices, step=state.step)
        state.optimizer.zero_grad(set_to_none=True)
        terms = self.objective(batch)
        values = {name: float(term.detach()) for name, term in terms.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise self._diverged(state, f"step {state.step + 1}, term '{name}'", f"{value}", lr)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        for hook in self.hooks:
            hook.before_step(state)
        state.optimizer.step()
        state.step += 1
        for hook in self.hooks:
            hook.after_step(state)
        return values

    def _judge(self, state: LoopState, terms: dict[str, float]) -> EpochRecord:
        outputs = predict_split(state.model, self.validation)
        lr = state.optimizer.param_groups[0]["lr"]
        if not bool(torch.isfinite(outputs).all()):
            raise self._diverged(
                state, "on the validation split", "outputs that are not finite", lr
            )
        labels = self.validation.labels
        return EpochRecord(
            epoch=state.epoch,
            lr=lr,
            loss=sum(terms.values()),
            terms=terms,
            validation=self.metric.compute(outputs.numpy(), labels.numpy()),
            validation_loss=float(CrossEntropy()(outputs, labels)),
        )

    def _is_better(self, record: EpochRecord, state: LoopState) -> bool:
        if not state.best_epoch:
            return True
        best = state.records[state.best_epoch - 1]
        sign = 1 if self.metric.better == "higher" else -1
        mine = (sign * record.validation, -record.validation_loss)
        return mine > (sign * best.validation, -best.validation_loss)

    def _judged(self, state: LoopState) -> dict[str, float]:
        return {"validation": state.records[-1].validation} if state.records else {}

    def _diverged(self, state: LoopState, where: str, found: str, lr: float) -> StageError:
        return StageError(
            f"training diverged in epoch {state.epoch}, {where}",
            found=found,
            expected="finite numbers",
            hint=f"Lower lr: it is {self.options.lr:g} at most and was {lr:.3g} here; "
            f"{self.options.lr / 5:.2g} is worth a try",
        )


def _augmented(
    inputs: tuple[torch.Tensor, ...], options: Augment, generator: torch.Generator
) -> tuple[torch.Tensor, ...]:
    if not options.is_active:
        return inputs
    return tuple(augment_images(x, options, generator) if x.ndim == 4 else x for x in inputs)


def _arrange_plainly(model: nn.Module) -> None:
    # A loaded model lies plainly in memory, and convolutions round otherwise with channels
    # innermost. `.to(memory_format=...)` leaves tensors alone whose layout is ambiguous.
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
