"""Weights read and written without unpickling, and fitted to a network with exact messages."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from edgekit.core.errors import InputError
from edgekit.core.files import write_atomic

MAX_BYTES = 4 << 30
_LISTED = 3
_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt"})
_CONVERT = (
    "Convert it where you trust it: "
    "`from safetensors.torch import save_file; save_file(model.state_dict(), 'w.safetensors')`"
)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from a `.pt` file that holds tensors only.

    Raises:
        InputError: Missing, too large, damaged, or a pickle of anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist")
    _check_size(path, path.stat().st_size)
    if path.suffix in _TORCH_SUFFIXES:
        return _read_torch(path)
    content = path.read_bytes()
    # Safetensors start with the length of a JSON header, whose first byte may be a pickle's too.
    is_pickle = content[:1] == b"\x80" or content[:4] == b"PK\x03\x04"
    if is_pickle and content[8:9] != b"{":
        raise InputError(
            f"weights file {path}",
            found="a pickle, which can run code when it is opened",
            expected="safetensors",
            hint=_CONVERT,
        )
    try:
        return load_safetensors(content)
    except SafetensorError as error:
        raise InputError(
            f"weights file {path} is truncated or not safetensors", found=str(error)
        ) from error


def write_weights(path: Path, module: nn.Module) -> None:
    """Write the state dict as safetensors, atomically."""
    # Copied: safetensors refuses tensors that share memory, as tied ones do.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    write_atomic(path, save_safetensors(tensors))


def fit_weights(module: nn.Module, weights: Mapping[str, torch.Tensor], source: Path) -> None:
    """Load weights into a network, in place.

    Raises:
        InputError: A tensor is missing, left over, of another shape or type, or not finite.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in weights]
    unexpected = [name for name in weights if name not in wanted]
    if missing or unexpected:
        raise InputError(
            f"weights {source} do not fit the architecture",
            found=_sentence(("missing", missing), ("unexpected", unexpected)),
            hint="Check the architecture's options, or name the architecture these weights are of",
        )
    wrong = [
        f"{name} is {list(weights[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if weights[name].shape != tensor.shape
    ]
    if wrong:
        raise InputError(
            f"weights {source} do not fit the architecture",
            found=_listed(wrong),
            hint="Check the architecture's options, such as its width or number of classes",
        )
    for name, tensor in wanted.items():
        if weights[name].is_floating_point() != tensor.is_floating_point():
            raise InputError(
                f"weights {source}: tensor '{name}'",
                found=str(weights[name].dtype).removeprefix("torch."),
                expected=str(tensor.dtype).removeprefix("torch."),
            )
    check_finite(weights, str(source))
    module.load_state_dict(dict(weights))


def check_finite(weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: Names the tensor and how many of its values are not finite.
    """
    for name, tensor in weights.items():
        bad = nonfinite(tensor)
        if bad:
            raise InputError(
                f"weights {source}: tensor '{name}'",
                found=f"{bad} of {tensor.numel()} values NaN or infinite",
                expected="finite values",
                hint="The training that made them diverged; start from an earlier checkpoint",
            )


def nonfinite(tensor: torch.Tensor) -> int:
    """Return how many values are NaN or infinite."""
    if not tensor.is_floating_point():
        return 0
    return int(tensor.numel() - torch.isfinite(tensor).sum().item())


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(info.file_size for info in archive.infolist()))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weights file {path}",
            found="a pickle of Python objects, which would run code when opened",
            expected="a state dict of tensors, or safetensors",
            hint=_CONVERT,
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(f"weights file {path} is damaged", found=str(error).split("\n")[0]) from (
            error
        )
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
    ):
        raise InputError(
            f"weights file {path}", found="no state dict", expected="tensors by name", hint=_CONVERT
        )
    return found


def _check_size(path: Path, num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise InputError(
            f"weights file {path}",
            found=f"{num_bytes / (1 << 30):.1f} GiB",
            expected=f"at most {MAX_BYTES >> 30} GiB",
        )


def _sentence(*groups: tuple[str, list[str]]) -> str:
    return "; ".join(f"{word} {_listed(names)}" for word, names in groups if names)


def _listed(items: list[str]) -> str:
    shown = ", ".join(items[:_LISTED])
    rest = len(items) - _LISTED
    return f"{shown} and {rest} more" if rest > 0 else shown
