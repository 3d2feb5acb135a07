"""`edgekit cache`: look into the store and clean it."""

from __future__ import annotations

import time

import click


@click.group(name="cache")
def command() -> None:
    """Look into the store of finished stages and clean it."""


@command.command(name="ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_entries(*, as_json: bool) -> None:
    """List finished stages: key, stage, size, when made and last used."""
    from edgekit.cli.render import show_entries_of_store
    from edgekit.core.places import store_folder
    from edgekit.pipeline.store import Store

    show_entries_of_store(Store(store_folder()), as_json=as_json)


@command.command(name="explain")
@click.argument("key")
@click.argument("other", required=False)
def explain(*, key: str, other: str | None) -> None:
    """Say what KEY was made from, and in what it differs from OTHER or its nearest relative."""
    from edgekit.cli.render import show_explanation
    from edgekit.core.places import store_folder
    from edgekit.pipeline.explain import explain_entry
    from edgekit.pipeline.store import Store

    show_explanation(explain_entry(Store(store_folder()), key, other))


@command.command(name="gc")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Remove stages unused for this many days.",
)
def collect(*, older_than: float) -> None:
    """Remove finished stages that were not used for a while, and what killed builds left."""
    from edgekit.core.places import store_folder
    from edgekit.pipeline.store import Store

    removed = Store(store_folder()).gc(older_than_s=older_than * 86400, now=time.time())
    size = sum(entry.size_bytes for entry in removed)
    click.echo(f"removed {len(removed)} stages, {size / 2**20:.1f} MiB")
