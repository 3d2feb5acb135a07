"""A pretrained transformers model, from a folder or from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.errors import InputError, require_module
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.options import Meta, Options, path_or_name
from edgekit.core.stage import StageContext, StageResult
from edgekit.learn.checks import check_num_classes, fit_inputs

if TYPE_CHECKING:
    from edgekit.zoo.hugging_face import HuggingFaceModule
    from edgekit.zoo.pretrained import Pretrained

_SEQUENCE_LENGTH = 128
_TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_IMAGE_INPUT = "pixel_values"


class Huggingface(Options, frozen=True, kw_only=True):
    """Start from a transformers model: `{huggingface: folder-or-id}`, its weights as safetensors.

    A folder beside the recipe goes before an id on the hub. Nothing pickled is opened and no code
    of the model's own is run. `HF_HUB_OFFLINE=1` keeps the hub from being asked.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset()
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()

    huggingface: Annotated[str, path_or_name("Folder, or id on the hub")]
    task: Annotated[
        Literal["image-classification", "text-classification", "feature-extraction"] | None,
        Meta(description="What the head is for; by default what the model was trained for"),
    ] = None
    revision: Annotated[
        str | None, Meta(description="Branch, tag or commit on the hub; name a commit to be sure")
    ] = None
    sequence_length: Annotated[
        int | None,
        Meta(ge=1, le=8192, description="Tokens per text; by default those of the data, or 128"),
    ] = None
    image_size: Annotated[
        int | None,
        Meta(ge=8, le=4096, description="Height and width; by default those of data or model"),
    ] = None

    def produces(self, kind: ModelKind | None) -> ModelKind:
        """Return TORCH."""
        return ModelKind.TORCH

    def requires(self, model: ModelHandle | None, ctx: StageContext) -> None:
        """Refuse a missing package or folder before anything heavy is loaded.

        Raises:
            InputError: A package is not installed, or the model is nowhere to be found.
        """
        from edgekit.zoo.pretrained import find_folder
        from edgekit.zoo.quiet import quiet

        with quiet():
            require_module("torch", "torch")
            for name in ("transformers", "optimum"):
                require_module(name, "hf")
        find_folder(self.huggingface, self.revision)

    def run(self, model: ModelHandle | None, ctx: StageContext) -> StageResult:
        """Load the weights and save them with the config they belong to."""
        from edgekit.evaluation.accuracy import measure
        from edgekit.zoo.checkpoint import ArchitectureRef, save
        from edgekit.zoo.cost import measure_cost
        from edgekit.zoo.exporters.transformer import tensor_names
        from edgekit.zoo.hugging_face import HuggingFaceModule, plain_config
        from edgekit.zoo.pretrained import find_folder, read_pretrained
        from edgekit.zoo.probe import check_saved
        from edgekit.zoo.weights import check_finite

        folder = find_folder(self.huggingface, self.revision)
        with ctx.progress.start("load the pretrained model"):
            found = read_pretrained(folder, self.task)
        check_finite(found.model.state_dict(), str(folder))
        names, output_names = tensor_names(found.model, found.task)
        module = HuggingFaceModule(found.model, names, output_names).eval()
        inputs = fit_inputs(self._inputs(folder, found, names, ctx), ctx)
        outputs = _outputs(module, inputs)
        handle = save(
            module,
            ctx.workdir,
            architecture=ArchitectureRef(
                schema=1,
                huggingface=found.task,
                options={
                    "config": plain_config(found.config),
                    "inputs": names,
                    "outputs": output_names,
                },
            ),
            inputs=inputs,
            outputs=outputs,
            labels=_labels(found, outputs, ctx),
        )
        check_saved(module, handle)
        return StageResult(
            model=handle,
            metrics=(*measure(handle, ctx), *measure_cost(module, handle)),
            warnings=self._warnings(),
            details={"task": found.task, "model_type": found.config.model_type},
        )

    def ensures(self, before: ModelHandle | None, result: StageResult, ctx: StageContext) -> None:
        """Check that what was saved loads and gives finite outputs of the declared shape."""
        from edgekit.zoo.probe import check_sound

        check_sound(result.model)

    def _warnings(self) -> tuple[str, ...]:
        if self.revision is not None or Path(self.huggingface).is_absolute():
            return ()
        text = (
            f"'{self.huggingface}' was taken from the hub without a `revision`: what a later build "
            "fetches may differ, and a cached build does not notice; name a commit"
        )
        return (text,)

    def _inputs(
        self, folder: Path, found: Pretrained, names: tuple[str, ...], ctx: StageContext
    ) -> tuple[TensorSpec, ...]:
        from edgekit.zoo.pretrained import image_size

        if names == (_IMAGE_INPUT,):
            given = _data_shape(ctx, 4)
            size = given[2:] if given and self.image_size is None else None
            height, width = size or image_size(folder, found.config, self.image_size)
            channels = int(getattr(found.config, "num_channels", 3))
            return (TensorSpec(_IMAGE_INPUT, "float32", (None, channels, height, width)),)
        if _TEXT_INPUTS.issuperset(names):
            length = self._length(found, ctx)
            return tuple(TensorSpec(name, "int64", (None, length)) for name in names)
        raise InputError(
            f"the inputs of a {found.config.model_type} model",
            found=", ".join(names),
            expected=f"{_IMAGE_INPUT}, or some of {', '.join(sorted(_TEXT_INPUTS))}",
            hint="Give the model as an .onnx file exported elsewhere",
        )

    def _length(self, found: Pretrained, ctx: StageContext) -> int:
        longest = int(getattr(found.config, "max_position_embeddings", 0)) or None
        given = _data_shape(ctx, 2)
        usual = min(_SEQUENCE_LENGTH, longest or _SEQUENCE_LENGTH)
        length = self.sequence_length or (given[1] if given else usual)
        if longest is not None and length > longest:
            raise InputError(
                f"sequence_length of '{self.huggingface}'",
                found=str(length),
                expected=f"at most {longest}, the positions this model knows",
            )
        return length


def _data_shape(ctx: StageContext, num_dims: int) -> tuple[int, ...] | None:
    """Return the shape of the preprocessed samples, if they are of so many dimensions."""
    if ctx.data is None:
        return None
    shape = ctx.data.signature()[0].shape
    return tuple(size or 0 for size in shape) if len(shape) == num_dims else None


def _outputs(module: HuggingFaceModule, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    from edgekit.zoo.probe import run_probe

    found = run_probe(module, inputs)
    return tuple(
        TensorSpec(name, str(tensor.dtype).removeprefix("torch."), (None, *tensor.shape[1:]))
        for name, tensor in zip(module.outputs, found, strict=True)
    )


def _labels(
    found: Pretrained, outputs: tuple[TensorSpec, ...], ctx: StageContext
) -> tuple[str, ...]:
    if found.task == "feature-extraction":
        return ()
    names = found.config.id2label or {}
    own = tuple(str(names[index]) for index in range(len(names)))
    if ctx.data is None:
        return own
    given = ctx.data.label_names
    check_num_classes(outputs, len(given))
    if all(name.startswith("LABEL_") for name in own):
        return given
    if sorted(map(str.lower, own)) == sorted(map(str.lower, given)) and [
        name.lower() for name in own
    ] != [name.lower() for name in given]:
        raise InputError(
            "the labels of data and model are the same in another order",
            found=", ".join(given),
            expected=", ".join(own),
            hint="Order the labels of the dataset as the model has them",
        )
    return own
