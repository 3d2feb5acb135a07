from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.evaluation.predict import module_runner, open_model, predict, run_in_batches
from edgekit.zoo.architecture import ArchitectureChoice
from edgekit.zoo.checkpoint import ArchitectureRef, save

MakeModel = Callable[..., ModelHandle]


@pytest.fixture
def torch_model(tmp_path: Path) -> ModelHandle:
    choice = ArchitectureChoice(architecture="mlp")
    inputs, outputs = choice.entry().signature()
    reference = ArchitectureRef.of_zoo(choice)
    folder = tmp_path / "torch"
    return save(reference.build(), folder, architecture=reference, inputs=inputs, outputs=outputs)


def test_an_onnx_model_computes_what_its_weights_say(onnx_model: MakeModel) -> None:
    weight = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    x = np.random.default_rng(2).standard_normal((10, 6)).astype(np.float32)
    found = predict(onnx_model(weight), {"x": x})
    np.testing.assert_allclose(found["scores"], np.maximum(x @ weight, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_any_number_of_items_runs_whatever_batch_the_model_fixes(
    onnx_model: MakeModel, batch: int | None, optimize: bool
) -> None:
    x = np.random.default_rng(0).standard_normal((7, 6)).astype(np.float32)
    reference = predict(onnx_model(), {"x": x}, batch_size=7)["scores"]
    model = onnx_model(batch=batch)
    found = predict(model, {"x": x}, batch_size=3, optimize=optimize)["scores"]
    assert found.shape == (7, 4)
    np.testing.assert_allclose(found, reference, rtol=1e-6)


def test_a_torch_model_gives_the_same_in_any_batch(torch_model: ModelHandle) -> None:
    x = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    whole = predict(torch_model, {"input": x})["logits"]
    parts = predict(torch_model, {"input": x}, batch_size=2)["logits"]
    assert whole.shape == (5, 10)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_the_number_of_torch_threads_is_put_back(torch_model: ModelHandle) -> None:
    before = torch.get_num_threads()
    predict(torch_model, {"input": np.zeros((1, 64), np.float32)}, num_threads=2)
    assert torch.get_num_threads() == before


def test_inputs_that_do_not_fit_are_refused(onnx_model: MakeModel) -> None:
    with pytest.raises(InputError, match=r"expected \[batch, 6\]"):
        predict(onnx_model(), {"x": np.zeros((2, 5), np.float32)})


def test_an_output_of_another_shape_than_declared_is_refused(onnx_model: MakeModel) -> None:
    model = onnx_model()
    lying = msgspec.structs.replace(model, outputs=(TensorSpec("scores", "float32", (None, 10)),))
    with pytest.raises(StageError, match=r"'scores': found \[batch, 4\], expected \[batch, 10\]"):
        predict(lying, {"x": np.zeros((2, 6), np.float32)})


def test_an_output_that_is_not_there_is_refused(onnx_model: MakeModel) -> None:
    model = onnx_model()
    lying = msgspec.structs.replace(model, outputs=(TensorSpec("logits", "float32", (None, 4)),))
    with pytest.raises(StageError, match="output 'logits': found no such output"):
        predict(lying, {"x": np.zeros((2, 6), np.float32)})


def test_more_torch_outputs_than_declared_are_refused(torch_model: ModelHandle) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    run = module_runner(Two(), torch_model)
    with pytest.raises(StageError, match="found 2 outputs, expected 1: logits"):
        run_in_batches(run, torch_model, {"input": np.zeros((1, 64), np.float32)})


def test_a_compiled_model_is_no_business_of_this_process(torch_model: ModelHandle) -> None:
    compiled = msgspec.structs.replace(torch_model, kind=ModelKind.COMPILED)
    with pytest.raises(AssertionError, match="through a runner"):
        open_model(compiled)
