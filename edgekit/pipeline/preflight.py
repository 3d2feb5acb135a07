"""Preflight: what is missing is said before the first stage runs, not after the longest.

Only stages that will run are looked at: a build that is cached needs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core.errors import require_installed
from edgekit.core.options import Options
from edgekit.core.registry import registry
from edgekit.core.target import Target
from edgekit.devices.identity import split_uri
from edgekit.pipeline.plan import Plan
from edgekit.pipeline.store import Store


def preflight(plans: Sequence[Plan], store: Store) -> None:
    """Refuse plans whose packages or devices are missing.

    Raises:
        InputError: A package is missing; the pip command is in the message.
        DeviceError: A device cannot be used.
    """
    for plan in plans:
        for planned in plan.stages:
            if store.find(planned.key) is not None:
                continue
            for module, extra in _packages(planned.stage, plan.target):
                require_installed(module, extra)
            if planned.is_measuring and plan.runner != "none":
                scheme, _ = split_uri(plan.runner)
                registry("runners").get(scheme)().require(plan.runner, plan.target)


def _packages(stage: Options, target: Target) -> tuple[tuple[str, str], ...]:
    needed = getattr(stage, "packages", ())
    found: tuple[tuple[str, str], ...] = needed(target) if callable(needed) else needed
    return found
