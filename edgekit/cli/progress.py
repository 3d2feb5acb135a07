"""How progress looks: bars on a terminal, plain lines elsewhere, JSON events for machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

from edgekit.core.progress import Progress as ProgressProtocol
from edgekit.core.progress import Task

_QUIET_S = 2.0
_LINE_EVERY_S = 15.0


@contextmanager
def make_progress(*, as_json: bool) -> Iterator[ProgressProtocol]:
    """Give the progress that fits the output; everything goes to standard error but JSON."""
    if as_json:
        yield JsonProgress()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineProgress()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        Remaining(compact=True, elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield BarProgress(bars)


class BarProgress:
    """Show bars with the time left."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars

    def start(self, name: str, total: int | None = None, unit: str = "") -> Task:
        """Add a bar."""
        return _Bar(self.bars, self.bars.add_task(name, total=total, figures=""), name)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(text, markup=False, highlight=False)


class _Bar:
    def __init__(self, bars: Progress, task: TaskID, name: str) -> None:
        self.bars, self.task, self.name = bars, task, name
        self.started = time.monotonic()

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Move the bar."""
        text = _figures(figures)
        if text:
            self.bars.update(self.task, advance=amount, figures=text)
        else:
            self.bars.update(self.task, advance=amount)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar; work of over two seconds leaves a line behind."""
        self.bars.remove_task(self.task)
        spent = time.monotonic() - self.started
        if error is None and spent > _QUIET_S:
            self.bars.console.print(f"  {self.name}  {spent:.1f} s", markup=False, highlight=False)


class LineProgress:
    """Print a line now and then, for logs."""

    def start(self, name: str, total: int | None = None, unit: str = "") -> Task:
        """Return a task that prints a line at its end, and on the way when it takes long."""
        return _Lines(name, total, unit)

    def message(self, text: str) -> None:
        """Print the line."""
        click.echo(text, err=True)


class _Lines:
    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self.started = self.last = time.monotonic()

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Print where the work stands, at most every few seconds."""
        self.done += amount
        now = time.monotonic()
        if now - self.last < _LINE_EVERY_S:
            return
        self.last = now
        left = ""
        if self.total and self.done:
            seconds = (now - self.started) / self.done * (self.total - self.done)
            left = f", about {seconds:.0f} s left"
        of = f"/{self.total}" if self.total else ""
        unit = f" {self.unit}" if self.unit else ""
        extra = f" {_figures(figures)}" if figures else ""
        click.echo(f"{self.name}: {self.done}{of}{unit}{extra}{left}", err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say how long it took when it took long."""
        spent = time.monotonic() - self.started
        if error is None and spent > _QUIET_S:
            click.echo(f"{self.name}: done in {spent:.1f} s", err=True)


class JsonProgress:
    """Write one JSON object a line to standard output."""

    def start(self, name: str, total: int | None = None, unit: str = "") -> Task:
        """Write that work begins."""
        _event(event="start", name=name, total=total, unit=unit)
        return _Events(name)

    def message(self, text: str) -> None:
        """Write a message."""
        _event(event="message", text=text)


class _Events:
    def __init__(self, name: str) -> None:
        self.name = name
        self.done = 0
        self.started = self.last = time.monotonic()

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Write progress, at most once a second."""
        self.done += amount
        now = time.monotonic()
        if now - self.last >= 1:
            self.last = now
            _event(event="progress", name=self.name, done=self.done, figures=figures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write that work ended, and whether it failed."""
        spent = round(time.monotonic() - self.started, 3)
        _event(event="end", name=self.name, seconds=spent, ok=error is None)


def _event(**fields: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(fields) + b"\n")
    sys.stdout.flush()


def _figures(figures: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in figures.items())
