from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from edgekit.learn.layout import arranged, memory_format_for


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(6, 13, 1, stride=2), torch.contiguous_format),
        (nn.Conv2d(8, 13, 1, stride=2), torch.channels_last),
        (nn.Conv2d(6, 13, 1), torch.channels_last),
        (nn.Conv2d(6, 13, 3, stride=2), torch.channels_last),
        (nn.Linear(6, 13), torch.channels_last),
    ],
)
def test_channels_are_innermost_unless_a_strided_pointwise_layer_is_narrow(
    layer: nn.Module, expected: torch.memory_format
) -> None:
    assert memory_format_for(nn.Sequential(layer)) is expected


def test_only_images_are_arranged() -> None:
    image, row = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)
    first, second = arranged((image, row), torch.channels_last)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert second is row


def test_training_a_narrow_residual_network_does_not_damage_memory() -> None:
    # The damage shows as an abort of the whole process, so it happens in another one.
    script = (
        "import torch\n"
        "from torch import nn\n"
        "from edgekit.learn.layout import arranged, memory_format_for\n"
        "torch.set_num_threads(1)\n"
        "model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 13, 1, stride=2))\n"
        "layout = memory_format_for(model)\n"
        "model.to(memory_format=layout)\n"
        "for step in range(40):\n"
        "    (x,) = arranged((torch.randn(64, 1, 8, 8),), layout)\n"
        "    model(x).square().mean().backward()\n"
        "    kept = [torch.randn(7 * step + 3) for _ in range(20)]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
