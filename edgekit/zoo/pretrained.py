"""Pretrained transformers models read from a folder or the hub: safetensors alone, no code.

Why so strict: `pytorch_model.bin` is a pickle, and a model with `auto_map` brings Python files;
either would run a stranger's code on the machine that only wanted to compile a network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edgekit.core.errors import InputError, require_module
from edgekit.core.files import read_json
from edgekit.zoo.hugging_face import ATTENTION, TASKS, Task, auto_class, read_config
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

CONFIG = "config.json"
COMPANIONS = (
    "added_tokens.json",
    "merges.txt",
    "preprocessor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files that tokenize text or prepare images; they travel with the model, none holds code."""
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.pkl")
_HEADS: tuple[tuple[str, Task], ...] = (
    ("ForImageClassification", "image-classification"),
    ("ForSequenceClassification", "text-classification"),
    ("Model", "feature-extraction"),
)
_SHOWN = 3


class Pretrained(NamedTuple):
    """Hold a pretrained model as transformers gives it, in float32 and eval mode."""

    model: PreTrainedModel
    config: PretrainedConfig
    task: Task


def find_folder(place: str, revision: str | None) -> Path:
    """Return the folder of a model: the local one, or the hub's files in the Hugging Face cache.

    Args:
        place: A folder, or an id such as `microsoft/resnet-18`.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: Neither a folder nor a reachable model on the hub.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or not _HUB_ID.fullmatch(place):
        raise InputError(
            f"Hugging Face model '{place}'",
            found="no such folder",
            expected="a folder with config.json and model.safetensors, or an id on the hub",
        )
    return _download(place, revision)


def read_pretrained(folder: Path, task: Task | None) -> Pretrained:
    """Read a model and its weights.

    Args:
        folder: Holds `config.json` and safetensors.
        task: Decides the head; None takes it from the config.

    Raises:
        InputError: A file is missing or damaged, weights are pickled, the head was never trained,
            or the model needs code of its own.
    """
    content = read_json(folder / CONFIG, dict[str, Any])
    config = read_config(content)
    chosen = task or _task_of(config, folder)
    _require_safetensors(folder)
    with quiet():
        try:
            model, loading = auto_class(chosen).from_pretrained(
                str(folder),
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                attn_implementation=ATTENTION,
                dtype="float32",
                output_loading_info=True,
            )
        # transformers raises OSError, ValueError, RuntimeError and safetensors' own class here.
        except Exception as error:
            raise InputError(
                f"loading the weights of {folder}",
                found=f"{type(error).__name__}: {_first_line(error)}",
                hint="The download may be incomplete, or config.json is of another model",
            ) from error
    _require_complete(folder, chosen, _zero_unused(model, chosen, loading["missing_keys"]))
    return Pretrained(model.eval(), config, chosen)


def image_size(folder: Path, config: PretrainedConfig, wanted: int | None) -> tuple[int, int]:
    """Return height and width of the images: as wanted, as prepared, or as in the config.

    Raises:
        InputError: None of these says.
    """
    if wanted is not None:
        return wanted, wanted
    prepared = folder / "preprocessor_config.json"
    content = read_json(prepared, dict[str, Any]) if prepared.is_file() else {}
    keys = ("crop_size", "size") if content.get("do_center_crop") else ("size",)
    for candidate in (*(content.get(key) for key in keys), getattr(config, "image_size", None)):
        found = _height_width(candidate)
        if found is not None:
            return found
    raise InputError(
        f"finding the image size of {folder}",
        found="none in preprocessor_config.json or config.json",
        hint="Set model.image_size",
    )


def _height_width(candidate: object) -> tuple[int, int] | None:
    match candidate:
        case int(size):
            return size, size
        case {"height": int(height), "width": int(width)}:
            return height, width
        case {"shortest_edge": int(size)}:
            return size, size
        case [int(height), int(width)]:
            return height, width
    return None


def _task_of(config: PretrainedConfig, folder: Path) -> Task:
    names: Sequence[str] = config.architectures or ()
    for name in names:
        for ending, task in _HEADS:
            if name.endswith(ending):
                return task
    raise InputError(
        f"finding the task of {folder / CONFIG}",
        found=f"architectures {', '.join(names) or 'not named'}",
        expected="a class that ends in " + ", ".join(ending for ending, _ in _HEADS),
        hint=f"Set model.task to one of {', '.join(TASKS)}",
    )


def _require_safetensors(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        _check_shards(folder, index)
        return
    if (folder / "model.safetensors").is_file():
        return
    pickled = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    raise InputError(
        f"loading the weights of {folder}",
        found=f"only {', '.join(pickled[:_SHOWN])}, which can run code when opened"
        if pickled
        else "no weights",
        expected="model.safetensors",
        hint="Where you trust the file, load it with transformers and write it again by "
        "`model.save_pretrained(folder, safe_serialization=True)`"
        if pickled
        else None,
    )


class _ShardIndex(msgspec.Struct):
    weight_map: dict[str, str]


def _check_shards(folder: Path, index: Path) -> None:
    for name in sorted(set(read_json(index, _ShardIndex).weight_map.values())):
        is_beside = Path(name).name == name and name.endswith(".safetensors")
        if not is_beside or not (folder / name).is_file():
            raise InputError(
                f"{index} names weights in '{name}'",
                expected="safetensors files beside it",
            )


def _zero_unused(model: PreTrainedModel, task: Task, missing: Sequence[str]) -> list[str]:
    """Set weights to zero that no output depends on, and return the others that are missing."""
    # Many text encoders are saved without the pooler, which features do not go through.
    unused = [
        name for name in missing if task == "feature-extraction" and name.startswith("pooler.")
    ]
    for name in unused:
        model.get_parameter(name).data.zero_()
    return [name for name in missing if name not in unused]


def _require_complete(folder: Path, task: Task, missing: Sequence[str]) -> None:
    if missing:
        names = sorted(missing)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise InputError(
            f"loading the weights of {folder} for {task}",
            found=f"no values for {', '.join(names[:_SHOWN])}{more}",
            expected="a model that was trained for this task",
            hint="Set model.task to what it was trained for, or fine-tune it first",
        )


def _download(name: str, revision: str | None) -> Path:
    with quiet():
        hub: Any = require_module("huggingface_hub", "hf")
        try:
            found = hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=[CONFIG, "*.safetensors", "*.safetensors.index.json", *COMPANIONS],
            )
        # Many classes, from offline mode and DNS to a repository that is private or misspelt.
        except Exception as error:
            raise InputError(
                f"Hugging Face model '{name}' is no local folder and could not be downloaded",
                found=f"{type(error).__name__}: {_first_line(error)}",
                hint="Check the id and the network, or download the model elsewhere and give the "
                "path of its folder",
            ) from error
    return Path(found)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no reason given"
