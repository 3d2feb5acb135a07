from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from edgekit.core.errors import InputError
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_struct, to_plain
from edgekit.zoo.architecture import ArchitectureChoice
from edgekit.zoo.checkpoint import ArchitectureRef
from edgekit.zoo.probe import run_probe

NAMES = registry("architectures").names()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_the_declared_shape(
    name: str, small: Callable[[str], ArchitectureChoice]
) -> None:
    choice = small(name)
    inputs, outputs = choice.entry().signature()
    found = run_probe(ArchitectureRef.of_zoo(choice).build(), inputs)
    assert [tuple(tensor.shape) for tensor in found] == [spec.batched(2) for spec in outputs]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_build(name: str) -> None:
    choice = ArchitectureChoice(architecture=name)
    inputs, outputs = choice.entry().signature()
    found = run_probe(choice.entry().build(), inputs)
    assert found[0].shape == outputs[0].batched(2)


@pytest.mark.parametrize("name", NAMES)
def test_fresh_weights_depend_on_the_seed_alone(
    name: str, small: Callable[[str], ArchitectureChoice]
) -> None:
    reference = ArchitectureRef.of_zoo(small(name))
    first, again, other = (reference.build(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_the_global_generator_alone(
    small: Callable[[str], ArchitectureChoice],
) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ArchitectureRef.of_zoo(small("mlp")).build(seed=7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_can_be_captured_with_an_open_batch(
    name: str, small: Callable[[str], ArchitectureChoice]
) -> None:
    choice = small(name)
    inputs, outputs = choice.entry().signature()
    module = choice.entry().build().eval()
    example = torch.ones(inputs[0].batched(2))
    program = torch.export.export(
        module, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    )
    assert program.module()(torch.ones(inputs[0].batched(5))).shape == outputs[0].batched(5)


@pytest.mark.parametrize("name", NAMES)
def test_options_survive_being_written_out(
    name: str, small: Callable[[str], ArchitectureChoice]
) -> None:
    entry = small(name).options
    assert resolve_struct(to_plain(entry), type(entry), Where()) == entry


def test_resnet8_has_the_layers_it_says() -> None:
    module = ArchitectureChoice(architecture="resnet8").entry().build()
    convs = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [16, 16, 16, 32, 32, 32, 64, 64, 64]


def test_mobilenet_tiny_has_depthwise_convolutions_and_residual_paths() -> None:
    module = ArchitectureChoice(architecture="mobilenet-tiny").entry().build()
    depthwise = [part for part in module.modules() if getattr(part, "groups", 1) > 1]
    assert len(depthwise) == 4
    assert [name for name, part in module.named_children() if hasattr(part, "shortcut")] == [
        "block2",
        "block4",
    ]


def test_unknown_architecture_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown architecture 'resnet9'.*'resnet8'"):
        ArchitectureChoice(architecture="resnet9").entry()


def test_width_out_of_range_is_refused() -> None:
    kind = registry("architectures").get("resnet8")
    with pytest.raises(InputError, match=r"width is 100000"):
        resolve_struct({"width": 100_000}, kind, Where())
