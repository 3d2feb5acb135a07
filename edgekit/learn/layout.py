"""How tensors lie in memory while a model is trained."""

from __future__ import annotations

import torch
from torch import nn

_FEWEST_CHANNELS = 8


def memory_format_for(model: nn.Module) -> torch.memory_format:
    """Return channels innermost, which is faster on the CPU, unless that is unsafe for the model.

    oneDNN's backward pass of a strided 1x1 convolution with channels innermost writes beyond its
    buffer when fewer than 8 channels go in (seen with torch 2.13 on AVX2, 2 to 6 channels; the
    process aborts some steps later). Pruned and very narrow networks have such layers.
    """
    is_unsafe = any(
        isinstance(layer, nn.Conv2d)
        and max(layer.kernel_size) == 1
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < _FEWEST_CHANNELS
        for layer in model.modules()
    )
    return torch.contiguous_format if is_unsafe else torch.channels_last


def arranged(
    inputs: tuple[torch.Tensor, ...], memory_format: torch.memory_format
) -> tuple[torch.Tensor, ...]:
    """Return inputs with images laid out in a memory format; what has it already is not copied."""
    return tuple(x.contiguous(memory_format=memory_format) if x.ndim == 4 else x for x in inputs)
