"""`edgekit verify`: check that a bundle is whole and unchanged."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.core.errors import InputError


@click.command(name="verify")
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(*, bundle: Path, as_json: bool) -> None:
    """Check every byte of BUNDLE, a folder or .tar, against its manifest."""
    from edgekit.cli.render import show_verification
    from edgekit.pipeline.verify import verify

    result = verify(bundle)
    show_verification(bundle, result, as_json=as_json)
    if not result.ok:
        count = len(result.problems)
        faults = "1 fault" if count == 1 else f"{count} faults"
        raise InputError(f"{bundle} is not what was built", found=faults)
