"""Networks built by the user's own Python function, only where the user allowed code to run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.canonical import sha256_file
from edgekit.core.errors import InputError, near

if TYPE_CHECKING:
    from torch import nn

_WHERE = "Run edgekit in the folder of that module, or install its package"
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def build_from_factory(
    reference: str, options: Mapping[str, Any], *, allow_code: bool
) -> nn.Module:
    """Call `pkg.mod:fn` with `options` and return the network it gives.

    The module is looked for among installed packages and in the current folder.

    Raises:
        InputError: Code is not allowed, the function is not found, fails, or gives no module.
    """
    from torch import nn

    require_allowed(reference, allow_code=allow_code)
    factory = _find(reference)
    try:
        module = factory(**options)
    except Exception as error:  # whatever the user's code raises, the user can fix
        raise InputError(
            f"calling '{reference}'", found=f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(
            f"calling '{reference}'", found=type(module).__name__, expected="a torch.nn.Module"
        )
    return module


def require_allowed(reference: str, *, allow_code: bool) -> None:
    """Refuse to run the user's code unasked.

    Raises:
        InputError: Code is not allowed; the hint says how to allow it.
    """
    if not allow_code:
        raise InputError(
            f"the model comes from Python code '{reference}', which is not run unasked",
            hint="Read that code, then repeat the command with --allow-code",
        )


def code_digest(reference: str) -> str:
    """Return the digest of the source of a factory's module, found without importing it.

    Raises:
        InputError: No such module.
    """
    module_name = _parse(reference)[0]
    with _current_folder_importable():
        importlib.invalidate_caches()
        search: Sequence[str] | None = None
        spec = None
        names = module_name.split(".")
        for index in range(len(names)):
            prefix = ".".join(names[: index + 1])
            spec = importlib.machinery.PathFinder.find_spec(prefix, search)
            search = spec.submodule_search_locations if spec is not None else []
    if spec is None or spec.origin is None:
        raise InputError(f"no Python module '{module_name}'", hint=_WHERE)
    return sha256_file(Path(spec.origin))


def _find(reference: str) -> Any:  # noqa: ANN401 - the user's function
    module_name, function = _parse(reference)
    try:
        with _current_folder_importable():
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"importing '{module_name}'",
            found=str(error),
            hint=_WHERE,
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


def _parse(reference: str) -> tuple[str, str]:
    if not _REFERENCE.fullmatch(reference):
        raise InputError(
            "naming a model factory", found=f"'{reference}'", expected="package.module:function"
        )
    module_name, _, function = reference.partition(":")
    return module_name, function


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
