"""`edgekit list`: what can be named."""

from __future__ import annotations

import click

from edgekit.core.errors import InputError, near


@click.command(name="list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, kind: str | None, as_json: bool) -> None:
    """List targets, recipes, or the entries of a registry such as stages or datasets."""
    from edgekit.cli.render import show_names
    from edgekit.pipeline.catalog import KINDS, catalog

    if kind is None:
        show_names(dict.fromkeys(KINDS), as_json=as_json, title="Kinds")
        return
    if kind not in KINDS:
        raise InputError(f"unknown kind '{kind}'", hint=near(kind, KINDS))
    show_names(catalog(kind), as_json=as_json, title=kind)
