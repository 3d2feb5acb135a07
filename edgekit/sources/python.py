"""A network that the user's own Python function builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from edgekit.core.errors import InputError, require_module
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.options import Meta, Options, path_option
from edgekit.core.stage import StageContext, StageResult
from edgekit.learn.checks import check_num_classes
from edgekit.zoo.python_factory import code_digest, require_allowed

if TYPE_CHECKING:
    from torch import nn


class Python(Options, frozen=True, kw_only=True):
    """Start from `pkg.mod:fn`, a function that returns a `torch.nn.Module`; needs --allow-code.

    The module is looked for among installed packages and in the current folder. It is called with
    `options` as keyword arguments, again each time the model is loaded.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset()
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    requires_code: ClassVar[bool] = True

    python: Annotated[str, Meta(description="Module and function, `pkg.mod:fn`")]
    options: Annotated[dict[str, Any], Meta(description="Keyword arguments of the function")] = (
        msgspec.field(default_factory=dict)
    )
    input_shape: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(description="Shape of one float32 sample, for a recipe without data"),
    ] = ()
    weights: Annotated[
        str | None, path_option("State dict: safetensors, or .pt with tensors only")
    ] = None

    def produces(self, kind: ModelKind | None) -> ModelKind:
        """Return TORCH."""
        return ModelKind.TORCH

    def fingerprint(self) -> str:
        """Digest the source of the module, which is found without importing it.

        Raises:
            InputError: No such module.
        """
        return code_digest(self.python)

    def requires(self, model: ModelHandle | None, ctx: StageContext) -> None:
        """Refuse code that is not allowed, and a recipe that tells no input shape.

        Raises:
            InputError: As said; or torch is missing.
        """
        require_module("torch", "torch")
        require_allowed(self.python, allow_code=ctx.allow_code)
        if not self.input_shape and ctx.data is None:
            raise InputError(
                f"the input shape of '{self.python}' is not known",
                hint="Add `data:` to the recipe, or `input_shape` to the model",
            )

    def run(self, model: ModelHandle | None, ctx: StageContext) -> StageResult:
        """Call the function, find the outputs by a probe, and save the network."""
        from edgekit.sources._fresh import save_source
        from edgekit.zoo.checkpoint import ArchitectureRef

        reference = ArchitectureRef.of_python(self.python, self.options)
        module = reference.build(seed=ctx.seed, allow_code=ctx.allow_code)
        inputs = self._inputs(ctx)
        outputs = _outputs(module, inputs)
        if ctx.data is not None:
            check_num_classes(outputs, len(ctx.data.label_names))
        return save_source(
            module,
            ctx,
            architecture=reference,
            inputs=inputs,
            outputs=outputs,
            weights=self.weights,
        )

    def ensures(self, before: ModelHandle | None, result: StageResult, ctx: StageContext) -> None:
        """Check that what was saved loads and gives finite outputs of the declared shape."""
        from edgekit.zoo.probe import check_sound

        check_sound(result.model, allow_code=ctx.allow_code)

    def _inputs(self, ctx: StageContext) -> tuple[TensorSpec, ...]:
        if ctx.data is not None:
            return ctx.data.signature()
        return (TensorSpec("input", "float32", (None, *self.input_shape)),)


def _outputs(module: nn.Module, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    from edgekit.zoo.probe import run_probe

    found = run_probe(module, inputs)
    names = ["logits", *(f"output{index}" for index in range(1, len(found)))]
    return tuple(
        TensorSpec(name, str(tensor.dtype).removeprefix("torch."), (None, *tensor.shape[1:]))
        for name, tensor in zip(names, found, strict=True)
    )
