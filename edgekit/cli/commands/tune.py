"""`edgekit tune`: measure kernel tiles on a device."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.choices import complete_assets


@click.command(name="tune")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-t",
    "--target",
    metavar="NAME",
    required=True,
    shell_complete=complete_assets("targets"),
    help="Target to tune for.",
)
@click.option("--runner", metavar="URI", help="Where to measure. Default: the target's own.")
@click.option("--num-candidates", type=click.IntRange(2, 64), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--num-runs", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--num-threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    model: Path,
    target: str,
    runner: str | None,
    num_candidates: int,
    rounds: int,
    num_runs: int,
    num_threads: int,
    as_json: bool,
) -> None:
    """Find the fastest tile of every layer of MODEL, an ONNX file or a bundle.

    The result goes to targets/tiles/NAME.json in this folder; builds for that target use it.
    """
    from edgekit.cli.progress import make_progress
    from edgekit.cli.render import show_tuning
    from edgekit.deployed import tune_model
    from edgekit.evaluation.tuning import TuneSettings

    settings = TuneSettings(
        num_candidates=num_candidates, rounds=rounds, num_runs=num_runs, num_threads=num_threads
    )
    with make_progress(as_json=as_json) as progress:
        tuning, path = tune_model(
            model, target=target, runner=runner, settings=settings, progress=progress
        )
    show_tuning(tuning, path, as_json=as_json)
