"""Examining a device before it is needed; what can be prepared is prepared on the way."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.progress import Progress
from edgekit.core.registry import registry
from edgekit.core.target import Target
from edgekit.devices.identity import split_uri
from edgekit.devices.session import Check, Runner


def examine(uri: str, target: Target, cache_dir: Path, progress: Progress) -> list[Check]:
    """Check all that a session on `uri` needs, and say what to do where something is missing.

    Args:
        uri: Runner URI, such as `emulated:rpi4`.
        target: What is to run there.
        cache_dir: Where device programs and roots are kept.
        progress: Receives the advance of downloads and checks.

    Raises:
        InputError: There is no such runner, or it cannot stand for this target.
    """
    runner: Runner = registry("runners").get(split_uri(uri)[0])()
    return runner.examine(uri, target, cache_dir, progress)
