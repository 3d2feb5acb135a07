"""`edgekit init`: start a recipe of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.choices import complete_assets


@click.command(name="init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--from",
    "base",
    default="quickstart",
    show_default=True,
    shell_complete=complete_assets("recipes"),
    help="Recipe to start from.",
)
def command(*, folder: Path, base: str) -> None:
    """Write edgekit.yaml and its JSON Schema into FOLDER; nothing is overwritten."""
    from edgekit.pipeline.start import start_project

    for path in start_project(folder, base):
        click.echo(f"wrote {path}")
