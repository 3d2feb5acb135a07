"""`edgekit device`: what can be said about a device."""

from __future__ import annotations

import click

from edgekit.cli.choices import complete_assets
from edgekit.core.errors import DeviceError


@click.group(name="device")
def command() -> None:
    """Check the devices that builds measure on."""


@command.command(name="doctor")
@click.argument("uri")
@click.option(
    "-t",
    "--target",
    metavar="NAME",
    shell_complete=complete_assets("targets"),
    help="Target to check the device against. Default: the one the URI names, else host.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, uri: str, target: str | None, as_json: bool) -> None:
    """Check the device behind URI, such as emulated:rpi4, and prepare it for use."""
    from edgekit.cli.progress import make_progress
    from edgekit.cli.render import show_checks
    from edgekit.core.places import cache_folder
    from edgekit.core.target import load_target
    from edgekit.devices.doctor import examine
    from edgekit.devices.identity import split_uri

    _, rest = split_uri(uri)
    chosen = load_target(target or rest or "host")
    with make_progress(as_json=as_json) as progress:
        checks = examine(uri, chosen, cache_folder(), progress)
    show_checks(checks, as_json=as_json)
    failed = [check.name for check in checks if not check.ok]
    if failed:
        raise DeviceError(f"{uri} is not ready", found=f"trouble with {', '.join(failed)}")
