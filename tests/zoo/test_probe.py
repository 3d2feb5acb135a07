from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import torch
from torch import nn

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, TensorSpec
from edgekit.zoo.probe import check_saved, check_sound, probe_inputs, run_probe


def test_probes_are_the_same_every_time_and_fit_their_types() -> None:
    specs = (TensorSpec("x", "float32", (None, 3)), TensorSpec("ids", "int64", (None, 4)))
    first, again = probe_inputs(specs), probe_inputs(specs)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [tensor.dtype for tensor in first] == [torch.float32, torch.int64]


def test_a_model_that_does_not_take_its_inputs_is_refused() -> None:
    with pytest.raises(InputError, match=r"running the model on a probe.*takes \[None, 3\]"):
        run_probe(nn.Linear(4, 2), (TensorSpec("x", "float32", (None, 3)),))


def test_a_model_that_gives_no_tensor_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> str:
            return f"{x}"

    with pytest.raises(InputError, match=r"found str, expected a tensor"):
        run_probe(Odd(), (TensorSpec("x", "float32", (None, 3)),))


def test_a_sound_checkpoint_passes(saved: Callable[..., tuple[nn.Module, ModelHandle]]) -> None:
    module, handle = saved("mlp")
    check_saved(module, handle)
    check_sound(handle)


def test_state_outside_parameters_is_found(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    module, handle = saved("mlp")
    module.register_forward_hook(lambda *call: call[-1] + 1)
    with pytest.raises(StageError, match="changed by saving and loading"):
        check_saved(module, handle)


def test_another_shape_than_declared_is_found(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    _, handle = saved("mlp")
    wrong = msgspec.structs.replace(handle, outputs=(TensorSpec("logits", "float32", (None, 11)),))
    with pytest.raises(StageError, match=r"found \[\(2, 10\)\], expected \[\(2, 11\)\]"):
        check_sound(wrong)


def test_outputs_that_are_not_finite_are_found(
    saved: Callable[..., tuple[nn.Module, ModelHandle]],
) -> None:
    module, handle = saved("mlp")
    with torch.no_grad():
        module[1].weight.fill_(3e38)
        module[1].bias.fill_(3e38)
    from edgekit.zoo.weights import write_weights

    write_weights(handle.path / "weights.safetensors", module)
    with pytest.raises(StageError, match=r"output 'logits': found NaN or infinity"):
        check_sound(handle)
