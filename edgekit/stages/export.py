"""`export`: a torch model becomes one ONNX file that is shown to compute the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from edgekit.core.errors import StageError, require_module
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.options import Meta, Options
from edgekit.core.stage import StageContext, StageResult

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]

_SYNTHETIC = "no data: parity of torch and ONNX was checked on random inputs"
_BATCHES = (1, 3)


class Export(Options, frozen=True, kw_only=True):
    """Write the torch model as ONNX, with the batch left open and batch normalisation folded.

    Zoo models go through torch's exporter, Hugging Face models through optimum. The result must
    agree with the torch model on golden inputs, with onnxruntime's optimizations off and on.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.TORCH})
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[tuple[str, str], ...]] = (
        ("torch", "torch"),
        ("onnxscript", "onnx"),
        ("onnxruntime", "onnx"),
    )
    reads: ClassVar[tuple[str, ...]] = ()

    opset: Annotated[
        int, Meta(ge=18, le=20, description="ONNX operator set; 18 is the best supported")
    ] = 18

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return ONNX."""
        return ModelKind.ONNX

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Refuse early where a package is missing.

        Raises:
            InputError: A package is not installed; the hint says which extra brings it.
        """
        require_module("torch", "torch")
        for name in ("onnx", "onnxscript", "onnxruntime"):
            require_module(name, "onnx")

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Export, then measure accuracy and cost of the ONNX file."""
        from edgekit.compiler.onnx_file import save_onnx
        from edgekit.evaluation.accuracy import measure
        from edgekit.evaluation.cost import onnx_cost
        from edgekit.evaluation.predict import ONNX_FILE

        with ctx.progress.start("export to ONNX"):
            graph = self._export(model, ctx)
            save_onnx(graph, ctx.workdir / ONNX_FILE)
        handle = ModelHandle(ModelKind.ONNX, ctx.workdir, model.inputs, model.outputs, model.labels)
        parity = _check_parity(model, handle, ctx)
        operators = Counter(node.op_type for node in graph.graph.node)
        return StageResult(
            model=handle,
            metrics=(*measure(handle, ctx), *onnx_cost(handle)),
            warnings=() if ctx.data is not None else (_SYNTHETIC,),
            details={
                "opset": self.opset,
                "operators": dict(sorted(operators.items())),
                "parity": parity,
            },
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Hold the written file against the torch model, and try other batch sizes.

        Raises:
            StageError: Outputs differ beyond the tolerance (the first layer that differs is
                named), hold NaN, or depend on the batch.
        """
        _check_parity(before, result.model, ctx)
        _check_batches(result.model, ctx)

    def _export(self, model: ModelHandle, ctx: StageContext) -> onnx.ModelProto:
        from edgekit.zoo.checkpoint import load
        from edgekit.zoo.exporters.dynamo import export_module
        from edgekit.zoo.hugging_face import HuggingFaceModule

        loaded = load(model, allow_code=ctx.allow_code)
        if not isinstance(loaded.module, HuggingFaceModule):
            return export_module(loaded.module, model.inputs, model.outputs, opset=self.opset).graph
        from edgekit.zoo.exporters.transformer import export_transformer

        task = loaded.architecture.huggingface
        assert task is not None
        return export_transformer(
            loaded.module,
            task,
            model.inputs,
            model.outputs,
            opset=self.opset,
            scratch=ctx.scratch,
        )


def _check_parity(before: ModelHandle, after: ModelHandle, ctx: StageContext) -> dict[str, Any]:
    from edgekit.evaluation.golden import golden_inputs
    from edgekit.evaluation.locate import locate
    from edgekit.evaluation.parity import require_finite, require_parity
    from edgekit.evaluation.predict import predict

    inputs = golden_inputs(before, ctx.data, seed=ctx.seed).inputs
    reference = predict(before, inputs, num_threads=ctx.num_threads, allow_code=ctx.allow_code)
    require_finite(reference, "the torch model on golden inputs")
    found = {}
    for word, optimize in (("off", False), ("on", True)):
        outputs = predict(after, inputs, num_threads=ctx.num_threads, optimize=optimize)
        parity = require_parity(
            reference,
            outputs,
            between=f"torch and ONNX (onnxruntime's optimizations {word})",
            locate=lambda optimize=optimize: locate(  # type: ignore[misc]
                before, after, inputs, optimize=optimize, allow_code=ctx.allow_code
            ),
        )
        found[f"optimizations_{word}"] = msgspec.to_builtins(parity)
    return found


def _check_batches(model: ModelHandle, ctx: StageContext) -> None:
    from edgekit.evaluation.golden import golden_inputs
    from edgekit.evaluation.parity import require_parity
    from edgekit.evaluation.predict import fixed_batch, open_model, run_in_batches

    if fixed_batch(model.inputs) is not None:
        return
    inputs = golden_inputs(model, ctx.data, seed=ctx.seed).inputs
    run = open_model(model, num_threads=ctx.num_threads)
    whole = run_in_batches(run, model, inputs)
    for size in _BATCHES:
        try:
            parts = run_in_batches(run, model, inputs, batch_size=size)
        except Exception as error:
            raise StageError(
                f"running the exported model with a batch of {size}", found=str(error)
            ) from error
        require_parity(whole, parts, between=f"ONNX in one batch and in batches of {size}")
