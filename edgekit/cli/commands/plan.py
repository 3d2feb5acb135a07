"""`edgekit plan`: show what a build would run and what is cached."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.choices import build_options, request_from, resolved_files


@click.command(name="plan")
@build_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(*, as_json: bool, **given: Any) -> None:  # noqa: ANN401 - click's values
    """Show what would run, what is cached and why not, and what each name resolved to."""
    from edgekit.cli.render import show_plans
    from edgekit.pipeline.build import plan_build

    request = request_from(**given)
    files = resolved_files(given["recipe"], given["model"], given["targets"])
    show_plans(request, plan_build(request), files, as_json=as_json)
