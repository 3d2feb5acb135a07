"""`edgekit compare`: set two bundles side by side."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="compare")
@click.argument("old", type=click.Path(exists=True, path_type=Path))
@click.argument("new", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "json"]),
    default="terminal",
    show_default=True,
)
def command(*, old: Path, new: Path, form: str) -> None:
    """Compare the bundles OLD and NEW: figures, files, and the first stage that differs."""
    from edgekit.cli.render import show_comparison
    from edgekit.pipeline.compare import compare

    show_comparison(compare(old, new), form)
