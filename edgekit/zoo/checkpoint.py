"""Torch models as folders: architecture, surgery, weights and signature; nothing is pickled.

`architecture.json` says how to build the fresh network, `surgery.json` what was cut, and
`weights.safetensors` the values; `signature.json` makes the folder complete without its handle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import nn

from edgekit.core.errors import InputError
from edgekit.core.files import read_json, write_json
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_struct, to_plain
from edgekit.zoo.architecture import ArchitectureChoice, ArchitectureEntry
from edgekit.zoo.hugging_face import Task, build_from_config
from edgekit.zoo.python_factory import build_from_factory
from edgekit.zoo.surgery import AnyEdit, read_surgery, replay, write_surgery
from edgekit.zoo.weights import fit_weights, read_weights, write_weights

ARCHITECTURE_FILE = "architecture.json"
SIGNATURE_FILE = "signature.json"
WEIGHTS_FILE = "weights.safetensors"


class ArchitectureRef(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Say how to build the fresh network: by a zoo entry, a Hugging Face config or user code.

    Args:
        architecture: Name of an entry of `edgekit/zoo/architectures`, or None.
        python: `package.module:function`, or None.
        huggingface: Task of a transformers model, or None.
        options: Options of the entry, all of them; or keyword arguments of the function; or
            config, inputs and outputs of the transformers model.
    """

    schema: Literal[1]
    architecture: str | None = None
    python: str | None = None
    huggingface: Task | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that exactly one origin is named."""
        origins = (self.architecture, self.python, self.huggingface)
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError(
                "exactly one of 'architecture', 'python' and 'huggingface' must be named"
            )

    @staticmethod
    def of_zoo(choice: ArchitectureChoice) -> ArchitectureRef:
        """Return the reference of a zoo entry with its options, defaults included."""
        entry: Any = choice.entry()
        return ArchitectureRef(schema=1, architecture=choice.architecture, options=to_plain(entry))

    @staticmethod
    def of_python(reference: str, options: dict[str, Any]) -> ArchitectureRef:
        """Return the reference of a Python function."""
        return ArchitectureRef(schema=1, python=reference, options=options)

    def build(self, *, seed: int = 0, allow_code: bool = False, source: str = "") -> nn.Module:
        """Return the network with fresh weights that depend on `seed` only.

        Raises:
            InputError: Unknown architecture or option; code that is not allowed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.python is not None:
                return build_from_factory(self.python, self.options, allow_code=allow_code)
            if self.huggingface is not None:
                return build_from_config(self.huggingface, self.options)
            assert self.architecture is not None
            kind = registry("architectures").get(self.architecture)
            entry: ArchitectureEntry = resolve_struct(self.options, kind, Where(source))
            return entry.build()


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a live network, in eval mode, with what is needed to save it again."""

    module: nn.Module
    architecture: ArchitectureRef
    surgery: tuple[AnyEdit, ...]


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1] = 1
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()


def save(
    module: nn.Module,
    folder: Path,
    *,
    architecture: ArchitectureRef,
    surgery: Sequence[AnyEdit] = (),
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    labels: tuple[str, ...] = (),
) -> ModelHandle:
    """Write a network into `folder` and return its handle.

    Args:
        module: Network whose structure is `architecture` with `surgery` applied.
        folder: Where to write, normally a stage's work folder.
        architecture: How the fresh network is built.
        surgery: All edits since then, oldest first.
        inputs: In the order of the arguments of `module.forward`.
        outputs: In the order of its results.
        labels: Names of the classes.
    """
    write_json(folder / ARCHITECTURE_FILE, architecture)
    write_surgery(folder, surgery)
    write_json(folder / SIGNATURE_FILE, _Signature(inputs=inputs, outputs=outputs, labels=labels))
    write_weights(folder / WEIGHTS_FILE, module)
    return ModelHandle(ModelKind.TORCH, folder, inputs, outputs, labels)


def load(handle: ModelHandle, *, allow_code: bool = False) -> Loaded:
    """Build the network of a handle, replay its surgery, load its weights; eval mode.

    Raises:
        InputError: A file is missing or damaged, weights don't fit, code is not allowed.
    """
    folder = handle.path
    if handle.kind is not ModelKind.TORCH:
        raise InputError(f"loading {folder}", found=handle.kind.value, expected="a torch model")
    architecture = read_json(folder / ARCHITECTURE_FILE, ArchitectureRef)
    surgery = read_surgery(folder)
    module = architecture.build(allow_code=allow_code, source=str(folder / ARCHITECTURE_FILE))
    replay(module, surgery)
    weights = folder / WEIGHTS_FILE
    fit_weights(module, read_weights(weights), weights)
    return Loaded(module=module.eval(), architecture=architecture, surgery=surgery)


def open_folder(folder: Path) -> ModelHandle:
    """Return the handle of a checkpoint folder from its own `signature.json`.

    Raises:
        InputError: The folder is no checkpoint.
    """
    found = read_json(folder / SIGNATURE_FILE, _Signature)
    return ModelHandle(ModelKind.TORCH, folder, found.inputs, found.outputs, found.labels)
