"""`edgekit build`: run a recipe for targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.choices import build_options, request_from, resolved_files
from edgekit.core.errors import BudgetError


@click.command(name="build")
@build_options
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dist"),
    show_default=True,
    help="Folder for one bundle per target.",
)
@click.option("--json", "as_json", is_flag=True, help="Print events and the report as JSON lines.")
@click.option("--dry-run", is_flag=True, help="Show the plan and run nothing.")
@click.option("--remeasure", is_flag=True, help="Measure again instead of reusing figures.")
@click.option("--require-measured", is_flag=True, help="Exit 3 when a budget is not measured.")
@click.option("--allow-code", is_flag=True, help="Let the recipe import Python code of yours.")
def command(
    *,
    output: Path,
    as_json: bool,
    dry_run: bool,
    require_measured: bool,
    **given: Any,  # noqa: ANN401 - click's values
) -> None:
    """Build a recipe for one or several targets.

    Finished stages are kept in the store and reused; what changed runs again.
    """
    from edgekit.cli.progress import make_progress
    from edgekit.cli.render import show_plans, show_reports
    from edgekit.pipeline.build import plan_build, run_build

    request = request_from(output=output, **given)
    if dry_run:
        files = resolved_files(given["recipe"], given["model"], given["targets"])
        show_plans(request, plan_build(request), files, as_json=as_json)
        return
    with make_progress(as_json=as_json) as progress:
        reports = run_build(request, progress)
    show_reports(reports, as_json=as_json)
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    bad = {"missed", "not measured"} if require_measured else {"missed"}
    failed = [verdict for verdict in verdicts if verdict.status in bad]
    if failed:
        names = ", ".join(f"{verdict.name} ({verdict.status})" for verdict in failed)
        raise BudgetError("a budget does not hold", found=names)
