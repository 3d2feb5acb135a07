"""Probe inputs: a model saved and loaded again must give the same bits for them."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, TensorSpec
from edgekit.zoo.checkpoint import load

_NUM_SAMPLES = 2


def probe_inputs(inputs: tuple[TensorSpec, ...]) -> tuple[torch.Tensor, ...]:
    """Return two samples that are always the same: normal numbers, or ones where integers go in."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for spec in inputs:
        dtype, shape = getattr(torch, spec.dtype), spec.batched(_NUM_SAMPLES)
        is_float = dtype.is_floating_point
        found.append(
            torch.randn(shape, generator=generator, dtype=dtype)
            if is_float
            else torch.ones(shape, dtype=dtype)
        )
    return tuple(found)


def run_probe(module: nn.Module, inputs: tuple[TensorSpec, ...]) -> tuple[torch.Tensor, ...]:
    """Return the outputs for the probe inputs, in eval mode.

    Raises:
        InputError: The module does not take these inputs or does not give tensors.
    """
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            found = module(*probe_inputs(inputs))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            "running the model on a probe",
            found=str(error).split("\n")[0],
            expected=f"a model that takes {', '.join(str(list(s.shape)) for s in inputs)}",
        ) from error
    finally:
        module.train(was_training)
    outputs = tuple(found.values()) if isinstance(found, dict) else found
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    if not outputs or not all(isinstance(output, torch.Tensor) for output in outputs):
        raise InputError(
            "the model's result", found=type(found).__name__, expected="a tensor or a tuple of them"
        )
    return tuple(outputs)


def check_saved(module: nn.Module, handle: ModelHandle, *, allow_code: bool = False) -> None:
    """Load what was just saved and compare it with the live network, bit by bit.

    Raises:
        StageError: The loaded network gives other outputs than the live one, or outputs that are
            not finite or not of the declared shape.
    """
    live = run_probe(module, handle.inputs)
    again = run_probe(load(handle, allow_code=allow_code).module, handle.inputs)
    for spec, mine, theirs in zip(handle.outputs, live, again, strict=False):
        if not torch.equal(mine, theirs):
            raise StageError(
                f"saving the model: output '{spec.name}' changed by saving and loading",
                found=f"a difference of {float((mine - theirs).abs().max()):.3g}",
                expected="equal bits",
                hint="The network holds state outside its parameters and buffers",
            )
    check_outputs(handle, again)


def check_outputs(handle: ModelHandle, outputs: tuple[torch.Tensor, ...]) -> None:
    """Compare probe outputs with the declared signature.

    Raises:
        StageError: Another number of outputs, another shape, or values that are not finite.
    """
    shapes = [tuple(output.shape) for output in outputs]
    declared = [spec.batched(_NUM_SAMPLES) for spec in handle.outputs]
    if shapes != declared:
        raise StageError("the model's outputs", found=str(shapes), expected=str(declared))
    for spec, output in zip(handle.outputs, outputs, strict=True):
        if not bool(torch.isfinite(output).all()):
            raise StageError(f"the model's output '{spec.name}'", found="NaN or infinity")


def check_sound(handle: ModelHandle, *, allow_code: bool = False) -> None:
    """Load a checkpoint from disk and check that it works.

    Raises:
        InputError: It does not load, or holds NaN or infinite weights.
        StageError: Its outputs are not finite or not of the declared shape.
    """
    module = load(handle, allow_code=allow_code).module
    check_outputs(handle, run_probe(module, handle.inputs))
