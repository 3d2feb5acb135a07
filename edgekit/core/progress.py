"""Progress: stages announce work and advance it; who listens decides how it looks."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """Follow one piece of work; used as a context manager."""

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Move on by `amount` units and show figures such as `loss=0.31`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Progress(Protocol):
    """Receive what stages have to say while they run."""

    def start(self, name: str, total: int | None = None, unit: str = "") -> Task:
        """Announce work of `total` units; None when the amount is unknown."""
        ...

    def message(self, text: str) -> None:
        """Say one line worth reading once, such as a choice that was made."""


class _NullTask:
    def advance(self, amount: int = 1, **figures: float) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""


class NullProgress:
    """Ignore all progress; for library use and tests."""

    def start(self, name: str, total: int | None = None, unit: str = "") -> Task:
        """Return a task that shows nothing."""
        return _NullTask()

    def message(self, text: str) -> None:
        """Do nothing."""
