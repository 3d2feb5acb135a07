"""The `edgekit` command: finds subcommands in `commands/` and turns errors into exit codes."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click

from edgekit.cli import commands
from edgekit.core.errors import EdgekitError
from edgekit.core.version import __version__

INTERRUPTED = 130
_GRACE_S = 1.0


class CommandFolder(click.Group):
    """Load a subcommand's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the modules in `commands/`."""
        names = (module.name for module in pkgutil.iter_modules(commands.__path__))
        return sorted(name.strip("_") for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one subcommand, or None when there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found = importlib.import_module(f"{commands.__name__}.{cmd_name}")
        command: click.Command = found.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a subcommand, offering the nearest name for a wrong one."""
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            from edgekit.core.errors import near

            hint = near(args[0], self.list_commands(ctx))
            raise click.UsageError(f"unknown command '{args[0]}'. {hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=CommandFolder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 wrong input, 3 budget or gate missed, "
    "4 device or infrastructure, 1 anything else.",
)
@click.version_option(__version__, prog_name="edgekit")
def cli() -> None:
    """Compress, compile and measure models for edge devices."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    _leave_soon_on_interrupt()
    try:
        result: Any = cli.main(
            args=list(argv) if argv is not None else None,
            prog_name="edgekit",
            standalone_mode=False,
        )
        code = result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except EdgekitError as error:
        _show(error)
        if "--json" in (sys.argv[1:] if argv is None else argv):
            _show_json(error)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted: finished stages are kept; run again to go on.", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.stdout.flush()
    sys.exit(code)


def _show(error: EdgekitError) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(f"  {note}", err=True)
    if os.environ.get("EDGEKIT_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _show_json(error: EdgekitError) -> None:
    import msgspec

    event = {"event": "error", "message": str(error), "exit_code": error.exit_code}
    click.echo(msgspec.json.encode(event).decode())


def _leave_soon_on_interrupt() -> None:
    """Let Ctrl-C unwind, and end the process when native code does not let it within a moment.

    Frameworks spend seconds inside C++ where Python cannot raise. Finished stages are already in
    the store and unfinished ones are never stored, so leaving hard loses nothing.
    """

    def leave() -> None:
        click.echo("Interrupted: finished stages are kept; run again to go on.", err=True)
        os._exit(INTERRUPTED)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        timer = threading.Timer(_GRACE_S, leave)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handle)
