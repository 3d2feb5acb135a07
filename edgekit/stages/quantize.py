"""`quantize`: an int8 model whose ranges come from calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import msgspec

from edgekit.core.errors import InputError, StageError, require_module
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.options import Meta, Options, default_variant, variant
from edgekit.core.stage import StageContext, StageResult
from edgekit.core.target import Target
from edgekit.data.splits import PartName
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.compress.quant.audit import Audit
    from edgekit.compress.quant.backend import Backend, Quantized
    from edgekit.compress.quant.calibration import Calibration
    from edgekit.compress.quant.observer import Observer

_OPSET = 18


class Quantize(Options, frozen=True, kw_only=True):
    """Quantize a model after training: uint8 activations, int8 weights, int32 biases.

    An ONNX model goes through `backend`. With `search: neural-compressor` the stage takes the torch
    model instead, before any `export`, and gives ONNX itself. What `ignored` names keeps its float
    weights; a sum or pool between integer layers has none, and may run on levels all the same.

    Why a searched torch model leaves as ONNX: what the search ends with is a captured program full
    of quantizers, not a network that an architecture and edits could rebuild, and the only other
    way to store such a program is an archive that unpickles when it is read.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.ONNX, ModelKind.TORCH})
    version: ClassVar[int] = 1
    data_parts: ClassVar[tuple[PartName, ...]] = ("calibration",)
    reads: ClassVar[tuple[str, ...]] = ()

    mode: Annotated[
        Literal["ptq", "qat"], Meta(description="After training (ptq); qat is not there yet")
    ] = "ptq"
    backend: Annotated[Options, variant("backends", "Who writes the int8 graph")] = msgspec.field(
        default_factory=default_variant("backends", "onnxruntime")
    )
    observer: Annotated[Options, variant("observers", "How activation ranges are chosen")] = (
        msgspec.field(default_factory=default_variant("observers", "min-max"))
    )
    search: (
        Annotated[
            Literal["neural-compressor"],
            Meta(description="Try settings on the torch model until `max_drop` is kept"),
        ]
        | None
    ) = None
    max_drop: Annotated[
        float, Meta(ge=0, le=1, description="Loss of the metric that is fine: 0.01 is one point")
    ] = 0.01
    subset_size: (
        Annotated[int, Meta(ge=2, le=1_000_000, description="Calibration samples; default all")]
        | None
    ) = None
    ignored: Annotated[
        tuple[str, ...],
        Meta(description="What stays float: node names, patterns or operator types"),
    ] = ()
    seed: Annotated[int, Meta(ge=0, description="Of the subset; default the recipe's")] | None = (
        None
    )

    def __post_init__(self) -> None:
        """Refuse what is not there yet."""
        if self.mode == "qat":
            raise InputError(
                "mode is qat, quantization-aware training, which is not available yet",
                expected="ptq",
                hint="ptq with an observer, or `search: neural-compressor`, which keeps a goal",
            )

    def packages(self, target: Target) -> tuple[tuple[str, str], ...]:
        """Return the packages it needs, with the extra that brings each."""
        if self.search is not None:
            return (("torch", "torch"), ("neural_compressor", "nc"), ("onnxruntime", "onnx"))
        return (("onnx", "onnx"), ("onnxruntime", "onnx"))

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return ONNX.

        Raises:
            InputError: A torch model without a search, or an ONNX model with one.
        """
        if kind is ModelKind.TORCH and self.search is None:
            raise InputError(
                "quantize with a backend takes an ONNX model",
                found="a torch model",
                hint="Put an `export` stage before it, or set `search: neural-compressor`",
            )
        if kind is ModelKind.ONNX and self.search is not None:
            raise InputError(
                f"quantize with search {self.search} takes a torch model",
                found="an ONNX model",
                hint="Remove the `export` stage before it; the search exports by itself",
            )
        return ModelKind.ONNX

    def check(self, target: Target | None, *, has_data: bool) -> None:
        """Refuse int8 without data, at plan time.

        Raises:
            InputError: The recipe has no data.
        """
        if not has_data:
            raise InputError(
                "quantize needs calibration data, and the recipe has none",
                hint="int8 is never calibrated on random input: add a `data:` section, or pass "
                "--data with --model",
            )

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Refuse when a package or calibration data is missing, or data does not fit the model.

        Raises:
            InputError: Says which.
        """
        self.produces(model.kind)
        self.check(ctx.target, has_data=ctx.data is not None)
        require_module("onnxruntime.quantization", "onnx")
        if self.search is not None:
            with quiet():  # it greets on import
                require_module("neural_compressor.torch.quantization", "nc")
        from edgekit.evaluation.inputs import fit_inputs

        assert ctx.data is not None
        split = ctx.data.calibration
        if len(split) < max(self.subset_size or 2, 2):
            raise InputError(
                "quantize: the calibration split",
                found=f"{len(split)} samples",
                expected=f"at least {max(self.subset_size or 2, 2)}",
                hint="Raise data.split.calibration, or lower subset_size",
            )
        fit_inputs(model.inputs, {name: array[:1] for name, array in split.inputs.items()})

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Calibrate, write the int8 model, compare it with the float one.

        Raises:
            InputError: `ignored` matches nothing, or nothing is left to quantize.
            StageError: Activations are not finite.
        """
        from edgekit.compiler.onnx_file import save_onnx
        from edgekit.compress.quant.audit import audit
        from edgekit.evaluation.cost import onnx_cost
        from edgekit.evaluation.int8 import compare_int8
        from edgekit.evaluation.predict import ONNX_FILE

        details: dict[str, Any] = {"num_calibration": len(self._samples(ctx))}
        if self.search is None:
            quantized = self._by_backend(model, ctx)
        else:
            quantized, details["search"] = self._by_search(model, ctx)
        save_onnx(quantized.model, ctx.workdir / ONNX_FILE)
        handle = ModelHandle(ModelKind.ONNX, ctx.workdir, model.inputs, model.outputs, model.labels)
        compared = compare_int8(model, handle, ctx, max_drop=self.max_drop)
        found = audit(quantized.model)
        details |= {
            "integer_ops": found.integer_ops,
            "float_ops": found.float_ops,
            "kept_float": list(quantized.kept_float),
            **compared.details,
        }
        return StageResult(
            model=handle,
            metrics=(*compared.metrics, *onnx_cost(handle), *_counts(found)),
            warnings=(
                *compared.warnings,
                *_warnings(quantized, found, ignored=bool(self.ignored)),
                *_search_warnings(details),
            ),
            details=details,
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Check the file that was written: integers where they belong, signature unchanged.

        Raises:
            StageError: It breaks a rule for int8 models.
        """
        from edgekit.compiler.onnx_file import load_onnx
        from edgekit.compress.quant.audit import audit
        from edgekit.evaluation.predict import ONNX_FILE

        model = load_onnx(result.model.path / ONNX_FILE)
        found = audit(model)
        if found.violations:
            raise StageError(
                "checking the int8 model",
                found="; ".join(found.violations[:3]),
                expected="int8 weights within +-127 and constant scales",
            )
        if not found.num_integer:
            raise StageError(
                "checking the int8 model",
                found="no operator that can run on integers",
                expected="at least one",
            )
        names = [value.name for value in (*model.graph.input, *model.graph.output)]
        wanted = [spec.name for spec in (*before.inputs, *before.outputs)]
        if names != wanted:
            raise StageError(
                "checking the int8 model", found=", ".join(names), expected=", ".join(wanted)
            )

    def _by_backend(self, model: ModelHandle, ctx: StageContext) -> Quantized:
        from edgekit.evaluation.predict import ONNX_FILE

        backend = cast("Backend", self.backend)
        return backend.quantize(
            model.path / ONNX_FILE,
            ctx.scratch,
            self._calibration(model, ctx),
            ignored=self.ignored,
        )

    def _by_search(self, model: ModelHandle, ctx: StageContext) -> tuple[Quantized, dict[str, Any]]:
        from dataclasses import asdict

        from edgekit.compress.quant.neural_compressor import search
        from edgekit.evaluation.int8 import drop_on_validation
        from edgekit.zoo.checkpoint import load

        found = search(
            load(model, allow_code=ctx.allow_code).module,
            model.inputs,
            model.outputs,
            self._calibration(model, ctx),
            drop_of=drop_on_validation(model, ctx),
            max_drop=self.max_drop,
            opset=_OPSET,
            scratch=ctx.scratch,
            ignored=self.ignored,
        )
        return found.quantized, {
            "chosen": asdict(found.chosen),
            "trials": [asdict(trial) for trial in found.trials],
            "goal_met": found.chosen.drop <= self.max_drop,
        }

    def _calibration(self, model: ModelHandle, ctx: StageContext) -> Calibration:
        from edgekit.compress.quant.calibration import Calibration, batches_of
        from edgekit.evaluation.inputs import fit_inputs
        from edgekit.evaluation.predict import fixed_batch

        assert ctx.data is not None
        return Calibration(
            batches=batches_of(
                fit_inputs(model.inputs, ctx.data.calibration.inputs),
                self._samples(ctx),
                fixed_batch=fixed_batch(model.inputs),
            ),
            observer=cast("Observer", self.observer),
            seed=self._seed(ctx),
            num_threads=ctx.num_threads,
            progress=ctx.progress,
        )

    def _samples(self, ctx: StageContext) -> NDArray[Any]:
        from edgekit.compress.quant.calibration import choose_samples

        assert ctx.data is not None
        return choose_samples(len(ctx.data.calibration), self.subset_size, self._seed(ctx))

    def _seed(self, ctx: StageContext) -> int:
        return ctx.seed if self.seed is None else self.seed


def _counts(found: Audit) -> tuple[Metric, ...]:
    return (
        Metric("integer_ops", found.num_integer, better="higher"),
        Metric("float_ops", found.num_float, better="lower"),
    )


def _warnings(quantized: Quantized, found: Audit, *, ignored: bool) -> Iterator[str]:
    if quantized.kept_float:
        yield (
            f"{len(quantized.kept_float)} operators stay float, because their values are too large "
            f"for 8 bits: {', '.join(quantized.kept_float[:3])}"
        )
    if found.num_float and not ignored and not quantized.kept_float:
        names = ", ".join(f"{name} ({kind})" for name, kind in list(found.float_ops.items())[:3])
        yield f"{found.num_float} operators have no integer form and stay float: {names}"


def _search_warnings(details: Mapping[str, Any]) -> Iterator[str]:
    found = details.get("search")
    if found is not None and not found["goal_met"]:
        yield (
            f"no setting that was searched kept max_drop on the validation split; the best one "
            f"loses {found['chosen']['drop']:.4f}"
        )
