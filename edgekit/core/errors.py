"""Errors a user can fix: what was being done, what was found and expected, what to do next."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar


class EdgekitError(Exception):
    """Report something the user can act on; the CLI turns it into a message and an exit code.

    Args:
        doing: What was being done, as a sentence start without a final stop.
        found: What was found, in the user's own spelling.
        expected: What would have been accepted.
        hint: What to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        doing: str,
        *,
        found: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.doing = doing
        self.found = found
        self.expected = expected
        self.hint = hint
        super().__init__(self.message())

    def message(self) -> str:
        """Return the whole message on one line."""
        text = self.doing
        parts = []
        if self.found is not None:
            parts.append(f"found {self.found}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if parts:
            text = f"{text}: {', '.join(parts)}"
        if self.hint is not None:
            text = f"{text}. Hint: {self.hint}"
        return text if text.endswith((".", "!", "?", "`", "'")) else f"{text}."


class InputError(EdgekitError):
    """Refuse wrong input: an option, a file, a missing package."""

    exit_code: ClassVar[int] = 2


class BudgetError(EdgekitError):
    """Report a budget or gate that was missed."""

    exit_code: ClassVar[int] = 3


class DeviceError(EdgekitError):
    """Report trouble with a device, a runner or the infrastructure, never with the model."""

    exit_code: ClassVar[int] = 4


class StageError(EdgekitError):
    """Report a stage that broke its promise: parity, numbers that are not finite, a crash."""


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest known name, or with all of them when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}" if names else "None is installed"


def require_installed(module: str, extra: str) -> None:
    """Check that `module` could be imported, without importing it.

    Raises:
        InputError: The package is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise _not_installed(module, extra)


def require_module(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra of edgekit installs it.

    Raises:
        InputError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != root:
            raise
        raise _not_installed(root, extra) from error


def _not_installed(package: str, extra: str) -> InputError:
    return InputError(
        f"Python package '{package}' is needed here and is not installed",
        hint=f"pip install 'edgekit[{extra}]'",
    )
