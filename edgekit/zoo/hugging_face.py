"""Transformers models as modules that take and give plain tensors, built from their config.

Why the config is kept and not the folder it came from: a network that was pruned or trained is
saved like any other, its structure by `architecture.json` and its values by safetensors, and no
file of the original download is needed to load it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import torch
from torch import nn

from edgekit.core.errors import InputError, near, require_module
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Task = Literal["image-classification", "text-classification", "feature-extraction"]
TASKS: tuple[Task, ...] = get_args(Task)
_AUTO_CLASSES: dict[Task, str] = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "feature-extraction": "AutoModel",
}
# Fused attention traces into operators that hide the scale; the plain form is what int8 wants.
ATTENTION = "eager"


class TransformerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold the options of a transformers model in `architecture.json`.

    Args:
        config: Content of `config.json`.
        inputs: Names of the arguments, in the order of the signature.
        outputs: Names of the results.
    """

    config: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class HuggingFaceModule(nn.Module):
    """Call a transformers model with tensors in a fixed order.

    Args:
        model: The transformers model, reachable as `model`.
        inputs: Its keyword arguments, in order.
        outputs: Fields of its result, in order.
    """

    def __init__(
        self, model: PreTrainedModel, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs
        self.outputs = outputs

    def forward(self, *values: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return the outputs: one tensor, or a tuple where there are several."""
        result = self.model(**dict(zip(self.inputs, values, strict=True)), return_dict=True)
        found = tuple(result[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found


def build_from_config(task: Task, options: Mapping[str, Any]) -> HuggingFaceModule:
    """Build the network, with fresh weights, that an `architecture.json` describes.

    Raises:
        InputError: The options are damaged, transformers is missing or does not know the config.
    """
    try:
        wanted = msgspec.convert(options, TransformerOptions)
    except msgspec.ValidationError as error:
        raise InputError("architecture.json of a Hugging Face model", found=str(error)) from error
    config = read_config(wanted.config)
    auto = auto_class(task)
    with quiet():
        try:
            model = auto.from_config(config, trust_remote_code=False, attn_implementation=ATTENTION)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"building a {config.model_type} model for {task}",
                found=str(error).split("\n")[0][:200],
            ) from error
    return HuggingFaceModule(model, wanted.inputs, wanted.outputs)


def read_config(content: Mapping[str, Any]) -> PretrainedConfig:
    """Turn the content of a `config.json` into transformers' config.

    Raises:
        InputError: Transformers is not installed or does not know this type of model.
    """
    with quiet():
        require_module("transformers", "hf")
        from transformers import CONFIG_MAPPING
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise InputError(
            f"reading the config of a Hugging Face model: unknown model_type {kind!r}",
            hint="Models that bring their own code are not loaded"
            if "auto_map" in content
            else near(str(kind), list(CONFIG_MAPPING)),
        )
    with quiet():
        try:
            config = CONFIG_MAPPING[kind].from_dict(dict(content))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"reading the config of a {kind} model", found=str(error).split("\n")[0][:200]
            ) from error
    return config


def plain_config(config: PretrainedConfig) -> dict[str, Any]:
    """Return a config as data that does not tell when, where and with what it was read."""
    content: dict[str, Any] = config.to_diff_dict()
    for key in ("_name_or_path", "transformers_version", "auto_map", "_commit_hash"):
        content.pop(key, None)
    for key in ("dtype", "torch_dtype"):
        content.pop(key, None)
    # Networks are built in the type that weights are kept in.
    return {**content, "dtype": "float32"}


def auto_class(task: Task) -> Any:  # noqa: ANN401 - one of transformers' auto classes
    """Return the transformers class that builds models for a task."""
    with quiet():
        module = require_module("transformers", "hf")
        return getattr(module, _AUTO_CLASSES[task])
