"""`edgekit profile`: measure a bundle again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="profile")
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--runner", metavar="URI", help="Where to measure. Default: the target's own.")
@click.option("--num-runs", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("--num-threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--per-layer", is_flag=True, help="Also what each step costs, with its nodes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    bundle: Path,
    runner: str | None,
    num_runs: int,
    num_threads: int,
    per_layer: bool,
    as_json: bool,
) -> None:
    """Measure the engines of BUNDLE on a device: parity on golden inputs, time, memory."""
    from edgekit.cli.progress import make_progress
    from edgekit.cli.render import show_reports
    from edgekit.deployed import profile_bundle

    with make_progress(as_json=as_json) as progress:
        report = profile_bundle(
            bundle,
            runner=runner,
            num_runs=num_runs,
            num_threads=num_threads,
            per_layer=per_layer,
            progress=progress,
        )
    show_reports([report], as_json=as_json)
