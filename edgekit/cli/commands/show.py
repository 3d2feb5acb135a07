"""`edgekit show`: the documentation and options of one entry."""

from __future__ import annotations

import click


@click.command(name="show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, name: str, as_json: bool) -> None:
    """Show what NAME is (a stage, method, dataset, ...), its options, bounds and defaults."""
    from edgekit.cli.render import show_entries
    from edgekit.pipeline.catalog import describe

    show_entries(describe(name), as_json=as_json)
