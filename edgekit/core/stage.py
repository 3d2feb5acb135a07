"""The stage contract: what a stage takes, what it gives, and what it promises.

The pipeline drives every stage the same way: `requires` refuses before minutes are spent, `run`
fills one folder, `ensures` raises when the result breaks the stage's promise. Stages are structs
whose fields are the recipe's options; conformance is structural.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.options import Options
from edgekit.core.progress import NullProgress, Progress
from edgekit.core.target import Target


class SplitView(Protocol):
    """Show one part of a dataset: preprocessed inputs by name and integer labels, batch first."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Return arrays by input name."""
        ...

    @property
    def labels(self) -> Any:  # noqa: ANN401 - a numpy array; core does not import numpy
        """Return class indices, int64 [samples]."""
        ...

    def __len__(self) -> int: ...


class DataView(Protocol):
    """Show the dataset of a build; parts load on first use."""

    @property
    def train(self) -> SplitView:
        """Return the samples to learn from."""
        ...

    @property
    def validation(self) -> SplitView:
        """Return the samples to choose by while learning."""
        ...

    @property
    def calibration(self) -> SplitView:
        """Return the samples that set quantization ranges."""
        ...

    @property
    def test(self) -> SplitView:
        """Return the held-out samples that every reported figure is computed on."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return one name per class."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return the digest of everything that decides the parts' content."""
        ...

    @property
    def preprocess(self) -> tuple[Any, ...]:
        """Return the preprocessing steps, which travel in the bundle."""
        ...

    def raw_signature(self) -> tuple[TensorSpec, ...]:
        """Return what a sample looks like before preprocessing."""
        ...

    def signature(self) -> tuple[TensorSpec, ...]:
        """Return the model inputs that the preprocessed samples fit."""
        ...


class StageContext(msgspec.Struct, frozen=True, kw_only=True):
    """Carry what a stage may use besides its options and its input model.

    Args:
        workdir: Empty folder to fill; becomes the artifact's payload. Write nowhere else.
        scratch: Folder for temporary files, removed afterwards.
        cache_dir: The user's cache folder, for tools and device roots that outlive a build.
        seed: Seed of every random choice.
        data: The recipe's dataset, or None.
        metric: The recipe's metric entry.
        target: The target, given only when the stage's `reads` names fields of it.
        runner: Runner URI for stages that measure; `none` when the target cannot be reached.
        earlier: Results of earlier stages by label, for stages that ask for them.
        num_threads: Threads for training and in-process inference.
        allow_code: Whether the user allowed recipes to import Python code.
        progress: Where to report.
    """

    workdir: Path
    scratch: Path
    cache_dir: Path
    seed: int = 0
    data: DataView | None = None
    metric: Options | None = None
    target: Target | None = None
    runner: str | None = None
    earlier: Mapping[str, ModelHandle] = msgspec.field(default_factory=dict)
    num_threads: int = 1
    allow_code: bool = False
    progress: Progress = msgspec.field(default_factory=NullProgress)


class StageResult(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a stage made.

    Args:
        model: The model in `workdir`.
        metrics: Figures of this stage, including accuracy on the test split where it measures it.
        warnings: Sentences for the report.
        details: JSON values for the report, such as pruned channels by layer.
    """

    model: ModelHandle
    metrics: tuple[Metric, ...] = ()
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = msgspec.field(default_factory=dict)


@runtime_checkable
class Stage(Protocol):
    """Turn one model into another, or measure it."""

    accepts: ClassVar[frozenset[ModelKind]]
    version: ClassVar[int]

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the target fields that influence the result; empty when shared by all targets."""
        ...

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return the kind of the result for an input of `kind`."""
        ...

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Refuse what cannot work before any time is spent."""

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Do the work, writing only into `ctx.workdir`."""
        ...

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Raise `StageError` when the result breaks what this stage promises."""
