"""Which device a measurement belongs to, as far as it is known without touching the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError
from edgekit.core.registry import registry
from edgekit.core.target import Target


def split_uri(uri: str) -> tuple[str, str]:
    """Return a runner's name and the rest of its URI: `emulated:rpi4` gives both halves.

    Raises:
        InputError: No such runner; the nearest name is offered.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon and scheme not in registry("runners").names():
        raise InputError(f"runner '{uri}'", expected="a URI such as local: or emulated:rpi4")
    registry("runners").get(scheme)
    return scheme, rest


def runner_modules(uri: str) -> frozenset[str]:
    """Return the module of a URI's runner, whose code decides what is measured."""
    if uri == "none":
        return frozenset()
    return frozenset({registry("runners").get(split_uri(uri)[0]).__module__})


def device_identity(uri: str, target: Target, cache_dir: Path) -> dict[str, Any]:
    """Return what identifies the device in a cache key; empty for targets without a runner."""
    if uri == "none":
        return {}
    scheme, _ = split_uri(uri)
    runner = registry("runners").get(scheme)()
    return {"runner": uri, "device": runner.identity(uri, target, cache_dir)}
