from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.core.model import ModelHandle
from edgekit.core.registry import registry
from edgekit.zoo.architecture import ArchitectureChoice
from edgekit.zoo.checkpoint import ArchitectureRef, save
from edgekit.zoo.surgery import AnyEdit, replay

SMALL = {
    "resnet8": {"width": 4, "image_size": 8},
    "mobilenet-tiny": {"width": 4, "image_size": 8},
    "mlp": {"hidden": (8,), "input_shape": (1, 8, 8)},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def small() -> Callable[[str], ArchitectureChoice]:
    """Choose an architecture in a size that runs in milliseconds."""

    def choose(name: str) -> ArchitectureChoice:
        options = registry("architectures").get(name)(**SMALL.get(name, {}))
        return ArchitectureChoice(architecture=name, options=options)

    return choose


@pytest.fixture
def saved(
    tmp_path: Path, small: Callable[[str], ArchitectureChoice]
) -> Callable[..., tuple[nn.Module, ModelHandle]]:
    """Build a small network, cut it, save it."""

    def build(name: str, edits: tuple[AnyEdit, ...] = ()) -> tuple[nn.Module, ModelHandle]:
        choice = small(name)
        reference = ArchitectureRef.of_zoo(choice)
        module = reference.build(seed=1).eval()
        replay(module, edits)
        inputs, outputs = choice.entry().signature()
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        handle = save(
            module,
            folder,
            architecture=reference,
            surgery=edits,
            inputs=inputs,
            outputs=outputs,
            labels=("a", "b"),
        )
        return module, handle

    return build
