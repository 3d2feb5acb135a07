"""`edgekit schema`: JSON Schema for editors."""

from __future__ import annotations

import click


@click.command(name="schema")
@click.argument("kind", type=click.Choice(["recipe", "target"]))
def command(*, kind: str) -> None:
    """Print the JSON Schema of recipe or target files."""
    import msgspec

    from edgekit.pipeline.catalog import file_schema

    schema = msgspec.json.encode(file_schema(kind))
    click.echo(msgspec.json.format(schema, indent=2).decode())
