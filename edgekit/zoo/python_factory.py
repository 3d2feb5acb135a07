"""Networks built by the user's own Python function, only where the user allowed code to run."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from edgekit.core.errors import InputError, near

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def build_from_factory(
    reference: str, options: Mapping[str, Any], *, allow_code: bool
) -> nn.Module:
    """Call `pkg.mod:fn` with `options` and return the network it gives.

    The module is looked for among installed packages and in the current folder.

    Raises:
        InputError: Code is not allowed, the function is not found, fails, or gives no module.
    """
    if not allow_code:
        raise InputError(
            f"the model comes from Python code '{reference}', which is not run unasked",
            hint="Read that code, then repeat the command with --allow-code",
        )
    factory = _find(reference)
    try:
        module = factory(**options)
    except Exception as error:
        raise InputError(
            f"calling '{reference}'", found=f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(
            f"calling '{reference}'", found=type(module).__name__, expected="a torch.nn.Module"
        )
    return module


def _find(reference: str) -> Any:  # noqa: ANN401 - the user's function
    if not _REFERENCE.fullmatch(reference):
        raise InputError(
            "naming a model factory", found=f"'{reference}'", expected="package.module:function"
        )
    module_name, _, function = reference.partition(":")
    try:
        with _current_folder_importable():
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"importing '{module_name}'",
            found=str(error),
            hint="Run edgekit in the folder of that module, or install its package",
        ) from error
    except Exception as error:
        raise InputError(
            f"importing '{module_name}'", found=f"{type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(module, function, None)):
        raise InputError(
            f"module '{module_name}' has no function '{function}'",
            hint=near(function, [name for name in vars(module) if not name.startswith("_")]),
        )
    return getattr(module, function)


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
