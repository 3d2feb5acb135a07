"""A model from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from edgekit.core.errors import InputError, require_module
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.options import Meta, Options, path_option
from edgekit.core.stage import StageContext, StageResult
from edgekit.learn.checks import fit_inputs

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 11
_NUM_ITEMS = 2


class Onnx(Options, frozen=True, kw_only=True):
    """Start from an ONNX file: `{onnx: net.onnx}`, with fixed sizes or an open batch.

    External data is read from beside the file and becomes part of it.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset()
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()

    onnx: Annotated[str, path_option("The .onnx file")]
    sizes: Annotated[
        dict[str, Annotated[int, Meta(ge=1)]], Meta(description="Values of open sizes, by name")
    ] = msgspec.field(default_factory=dict)

    def produces(self, kind: ModelKind | None) -> ModelKind:
        """Return ONNX."""
        return ModelKind.ONNX

    def requires(self, model: ModelHandle | None, ctx: StageContext) -> None:
        """Refuse a missing package or file.

        Raises:
            InputError: As said.
        """
        for name in ("onnx", "onnxruntime"):
            require_module(name, "onnx")
        if not Path(self.onnx).is_file():
            raise InputError(f"model file {self.onnx} does not exist")

    def run(self, model: ModelHandle | None, ctx: StageContext) -> StageResult:
        """Check the file, copy it as one file, and measure it.

        Raises:
            InputError: The file is damaged or hostile, too old, or does not fit the data.
        """
        from edgekit.compiler.onnx_file import load_onnx, save_onnx, set_sizes
        from edgekit.evaluation.accuracy import measure
        from edgekit.evaluation.cost import onnx_cost
        from edgekit.evaluation.predict import ONNX_FILE

        path = Path(self.onnx)
        graph = load_onnx(path)
        set_sizes(graph, self.sizes)
        opset = _require_opset(graph, path)
        _require_finite_weights(graph, path)
        inputs, outputs = _settle_signature(graph, path, ctx)
        _require_single_batch(inputs, path)
        save_onnx(graph, ctx.workdir / ONNX_FILE)
        labels = ctx.data.label_names if ctx.data is not None else ()
        handle = ModelHandle(ModelKind.ONNX, ctx.workdir, inputs, outputs, labels)
        return StageResult(
            model=handle,
            metrics=(*measure(handle, ctx), *onnx_cost(handle)),
            warnings=_optimization_warning(handle, ctx),
            details={"opset": opset, "producer": graph.producer_name},
        )

    def ensures(self, before: ModelHandle | None, result: StageResult, ctx: StageContext) -> None:
        """Run the copy: its outputs must be finite.

        Raises:
            StageError: They are not.
        """
        from edgekit.evaluation.golden import golden_inputs
        from edgekit.evaluation.parity import require_finite
        from edgekit.evaluation.predict import predict

        inputs = golden_inputs(result.model, ctx.data, seed=ctx.seed).inputs
        for optimize in (False, True):
            outputs = predict(result.model, inputs, num_threads=ctx.num_threads, optimize=optimize)
            require_finite(outputs, f"the model of {self.onnx}")


def _require_single_batch(inputs: tuple[TensorSpec, ...], path: Path) -> None:
    for spec in inputs:
        if spec.shape and spec.shape[0] not in (None, 1):
            raise InputError(
                f"reading {path}: input '{spec.name}'",
                found=f"a batch fixed to {spec.shape[0]}",
                expected="an open batch, or a batch of 1: devices run one sample at a time",
                hint="Export the model again with a dynamic batch",
            )


def _require_opset(graph: onnx.ModelProto, path: Path) -> int:
    domains = ("", "ai.onnx")
    opset = max(
        (entry.version for entry in graph.opset_import if entry.domain in domains), default=0
    )
    if opset < OLDEST_OPSET:
        raise InputError(
            f"reading {path}",
            found=f"opset {opset}",
            expected=f"at least {OLDEST_OPSET}",
            hint="Export it again with opset 18, or raise it by onnx.version_converter",
        )
    return opset


def _require_finite_weights(graph: onnx.ModelProto, path: Path) -> None:
    import numpy as np
    from onnx.numpy_helper import to_array

    for tensor in graph.graph.initializer:
        values = to_array(tensor)
        # Infinity is a legitimate constant, as in the masks of attention; NaN is none.
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise InputError(
                f"reading {path}: tensor '{tensor.name}'",
                found=f"{int(np.isnan(values).sum())} of {values.size} values NaN",
                expected="numbers",
                hint="The training that made them diverged; export an earlier checkpoint",
            )


def _settle_signature(
    graph: onnx.ModelProto, path: Path, ctx: StageContext
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Name inputs as the data does and write into the graph what shapes really come out."""
    from edgekit.compiler.onnx_file import input_specs
    from edgekit.evaluation.predict import fixed_batch
    from edgekit.zoo.exporters.signature import drop_constant_inputs, rename_inputs, set_shapes
    from edgekit.zoo.exporters.tidy import clear_notes

    clear_notes(graph.graph)
    drop_constant_inputs(graph.graph)
    own = input_specs(graph)
    batches = {spec.shape[:1] for spec in own}
    if len(batches) != 1 or () in batches:
        raise InputError(
            f"reading {path}",
            found=f"inputs of shapes {', '.join(str(list(spec.shape)) for spec in own) or 'none'}",
            expected="inputs whose first size is one and the same batch",
        )
    inputs = _fit_data(own, ctx)
    rename_inputs(
        graph.graph, {mine.name: spec.name for mine, spec in zip(own, inputs, strict=True)}
    )
    outputs = _probe_outputs(graph, inputs, fixed_batch(inputs), path)
    set_shapes(graph.graph.input, inputs)
    set_shapes(graph.graph.output, outputs)
    return inputs, outputs


def _fit_data(own: tuple[TensorSpec, ...], ctx: StageContext) -> tuple[TensorSpec, ...]:
    """Check against the data as if the batch were open; a fixed one is obeyed item by item."""
    fitted = fit_inputs(
        tuple(TensorSpec(spec.name, spec.dtype, (None, *spec.shape[1:])) for spec in own), ctx
    )
    return tuple(
        TensorSpec(spec.name, spec.dtype, mine.shape)
        for spec, mine in zip(fitted, own, strict=True)
    )


def _probe_outputs(
    graph: onnx.ModelProto, inputs: tuple[TensorSpec, ...], batch: int | None, path: Path
) -> tuple[TensorSpec, ...]:
    from edgekit.evaluation.golden import synthetic_inputs
    from edgekit.evaluation.predict import run_whole

    size = batch or _NUM_ITEMS
    values = synthetic_inputs(inputs, seed=0, num_items=size)
    found = run_whole(graph, values, optimize=False)
    for name, array in found.items():
        if array.ndim < 1 or array.shape[0] != size:
            raise InputError(
                f"reading {path}: output '{name}'",
                found=f"shape {list(array.shape)} for {size} items",
                expected="one row per item",
            )
    return tuple(
        TensorSpec(name, array.dtype.name, (batch, *array.shape[1:]))
        for name, array in found.items()
    )


def _optimization_warning(model: ModelHandle, ctx: StageContext) -> tuple[str, ...]:
    """Say so when onnxruntime disagrees with itself, which int8 models from elsewhere may."""
    from edgekit.evaluation.golden import golden_inputs
    from edgekit.evaluation.parity import Tolerance, compare, is_within, require_finite
    from edgekit.evaluation.predict import predict

    inputs = golden_inputs(model, ctx.data, seed=ctx.seed).inputs
    plain, optimized = (
        predict(model, inputs, num_threads=ctx.num_threads, optimize=optimize)
        for optimize in (False, True)
    )
    require_finite(plain, "the model")
    require_finite(optimized, "the model")
    if is_within(plain, optimized, Tolerance()):
        return ()
    found = compare(plain, optimized)
    return (
        "onnxruntime gives other outputs with its optimizations than without: "
        f"SNR {found.snr_db:.1f} dB, same best class for {found.top1_agreement:.0%}",
    )
