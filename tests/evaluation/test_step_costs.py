"""Steps as measured are joined with what the build knows of them."""

from __future__ import annotations

import pytest

from edgekit.compiler.engine_build import StepFacts
from edgekit.core.errors import DeviceError
from edgekit.devices.job import StepTime
from edgekit.evaluation.step_costs import step_costs

FACTS = (
    StepFacts(name="pack", kind="layout", dtype="float32"),
    StepFacts(name="conv1", nodes=("conv1", "relu1"), kind="convolution", dtype="int8", macs=1000),
)


def test_shares_are_of_all_steps_and_facts_are_kept() -> None:
    costs = step_costs((StepTime(name="pack", us=1.0), StepTime(name="conv1", us=3.0)), FACTS)
    assert [cost.share for cost in costs] == [0.25, 0.75]
    assert costs[1].nodes == ("conv1", "relu1")
    assert (costs[1].kind, costs[1].dtype, costs[1].macs) == ("convolution", "int8", 1000)


def test_without_times_shares_are_of_instructions() -> None:
    found = (StepTime(name="pack", instructions=100.0), StepTime(name="conv1", instructions=300.0))
    assert [cost.share for cost in step_costs(found, FACTS)] == [0.25, 0.75]


def test_an_engine_without_steps_of_its_own_is_reported_by_onnx_node() -> None:
    (cost,) = step_costs((StepTime(name="Conv_0", us=2.0),), ())
    assert cost.nodes == ("Conv_0",)
    assert cost.share == 1.0


def test_other_steps_than_the_build_has_are_an_error() -> None:
    with pytest.raises(DeviceError, match="1 steps that are not those of the build"):
        step_costs((StepTime(name="conv1", us=1.0),), FACTS)
