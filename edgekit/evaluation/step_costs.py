"""What each step of an engine costs on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.engine_build import StepFacts
from edgekit.core.errors import DeviceError
from edgekit.core.report import StepCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.compiler.engine_build import EngineBuild
    from edgekit.devices.job import Job, StepTime
    from edgekit.devices.session import Session


def measure_steps(session: Session, job: Job, build: EngineBuild) -> tuple[StepCost, ...]:
    """Run an engine once more, step by step.

    Args:
        session: Where the engine was pushed to already.
        job: The job that measured whole runs.
        build: What is known of the engine's steps.

    Returns:
        One cost per step, in the order they run.

    Raises:
        DeviceError: The device program failed.
    """
    found = session.run(msgspec.structs.replace(job, mode="steps")).steps
    return step_costs(found or (), build.steps)


def step_costs(found: Sequence[StepTime], facts: Sequence[StepFacts]) -> tuple[StepCost, ...]:
    """Join what was measured with what is known of each step.

    Args:
        found: Steps as measured; those of a compiled library come in the order of `facts`.
        facts: From the build; empty for engines that bring their own graph.

    Raises:
        DeviceError: The device ran other steps than the build has.
    """
    names = tuple(step.name for step in found)
    if facts and names != tuple(fact.name for fact in facts):
        raise DeviceError(
            "measuring step by step",
            found=f"{len(names)} steps that are not those of the build",
            expected=f"the {len(facts)} steps named in engine.json",
        )
    total = sum(_weight(step) for step in found) or 1.0
    known = facts or [StepFacts(name=name, nodes=(name,)) for name in names]
    return tuple(
        StepCost(
            name=step.name,
            nodes=fact.nodes,
            kind=fact.kind,
            dtype=fact.dtype,
            share=_weight(step) / total,
            us=step.us,
            instructions=step.instructions,
            macs=fact.macs,
        )
        for step, fact in zip(found, known, strict=True)
    )


def _weight(step: StepTime) -> float:
    return step.us if step.us is not None else step.instructions or 0.0
