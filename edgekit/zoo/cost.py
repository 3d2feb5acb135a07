"""What a torch model costs: parameters, multiply-accumulates, bytes on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, TensorSpec


def count_params(module: nn.Module) -> int:
    """Return the number of trained values; tied ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, inputs: tuple[TensorSpec, ...]) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one sample."""
    was_training = module.training
    module.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*zero_inputs(inputs))
    module.train(was_training)
    return int(counter.get_total_flops()) // 2


def zero_inputs(inputs: tuple[TensorSpec, ...], num_samples: int = 1) -> tuple[torch.Tensor, ...]:
    """Return zeros of the inputs' shapes and types for `num_samples` samples."""
    return tuple(
        torch.zeros(spec.batched(num_samples), dtype=getattr(torch, spec.dtype)) for spec in inputs
    )


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_cost(module: nn.Module, handle: ModelHandle) -> tuple[Metric, ...]:
    """Return the metrics `params`, `macs` and `size_bytes` of a saved torch model."""
    return (
        Metric("params", count_params(module), better="lower"),
        Metric("macs", count_macs(module, handle.inputs), better="lower"),
        Metric("size_bytes", folder_bytes(handle.path), "B", better="lower"),
    )
