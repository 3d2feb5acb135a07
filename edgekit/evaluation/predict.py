"""Run a torch or ONNX model in this process over any number of items."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.progress import NullProgress, Progress
from edgekit.evaluation.inputs import fit_inputs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from torch import nn

    Array = NDArray[Any]
    Run = Callable[[Mapping[str, "Array"]], dict[str, "Array"]]

BATCH_SIZE = 64
ONNX_FILE = "model.onnx"


def predict(
    model: ModelHandle,
    inputs: Mapping[str, Array],
    *,
    num_threads: int = 1,
    batch_size: int = BATCH_SIZE,
    optimize: bool = True,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Return the outputs of all items.

    Args:
        model: A torch or ONNX model; a batch that the model fixes is obeyed.
        inputs: Arrays by input name, items along axis 0.
        num_threads: Threads inside an operator.
        batch_size: Items at a time.
        optimize: Whether onnxruntime may rewrite the graph; torch has no such choice.
        allow_code: Whether a torch model may be built by the user's Python code.
        progress: Where to report items done.

    Returns:
        Arrays by output name, in the order of the signature, items along axis 0.

    Raises:
        InputError: The inputs don't fit the model, or the model can't be loaded.
        StageError: The model gives other outputs than it declares.
    """
    run = open_model(model, num_threads=num_threads, optimize=optimize, allow_code=allow_code)
    return run_in_batches(run, model, inputs, batch_size=batch_size, progress=progress)


def open_model(
    model: ModelHandle, *, num_threads: int = 1, optimize: bool = True, allow_code: bool = False
) -> Run:
    """Load a model once and return what runs one batch of it.

    Raises:
        InputError: The model can't be loaded.
    """
    if model.kind is ModelKind.TORCH:
        from edgekit.zoo.checkpoint import load

        module = load(model, allow_code=allow_code).module
        return module_runner(module, model, num_threads=num_threads)
    if model.kind is ModelKind.ONNX:
        return _onnx_runner(model, num_threads, optimize=optimize)
    raise AssertionError("compiled models run on devices, through a runner")


def run_in_batches(
    run: Run,
    model: ModelHandle,
    inputs: Mapping[str, Array],
    *,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Feed all items to `run`, at most `batch_size` at a time, or the batch the model fixes.

    Raises:
        InputError: The inputs don't fit the model.
        StageError: The model gives other outputs than it declares.
    """
    import numpy as np

    fitted = fit_inputs(model.inputs, inputs)
    num_items = len(next(iter(fitted.values())))
    fixed = fixed_batch(model.inputs)
    step = fixed or min(batch_size, num_items)
    parts: list[dict[str, Array]] = []
    with (progress or NullProgress()).start("predict", num_items, "items") as task:
        for start in range(0, num_items, step):
            batch = {name: array[start : start + step] for name, array in fitted.items()}
            count = min(step, num_items - start)
            found = run(batch if count == step or fixed is None else _pad(batch, step))
            parts.append({name: array[:count] for name, array in found.items()})
            task.advance(count)
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _require_declared(model.outputs, outputs)
    return {spec.name: outputs[spec.name] for spec in model.outputs}


def run_whole(
    graph: onnx.ModelProto, inputs: Mapping[str, Array], *, optimize: bool
) -> dict[str, Array]:
    """Run a graph on all items at once; its outputs may have any shape.

    Raises:
        InputError: onnxruntime refuses the graph or the inputs.
    """
    from edgekit.compiler.session import open_session

    session = open_session(graph, optimization="all" if optimize else "off")
    names = [info.name for info in graph.graph.output]
    try:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    # onnxruntime's errors share no base but Exception.
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise InputError("running the ONNX graph", found=lines[0][:300]) from error


def fixed_batch(inputs: Sequence[TensorSpec]) -> int | None:
    """Return the batch that a model fixes, or None when it is open."""
    return next((spec.shape[0] for spec in inputs if spec.shape and spec.shape[0]), None)


def module_runner(module: nn.Module, model: ModelHandle, *, num_threads: int = 1) -> Run:
    """Return what runs a live torch network, in eval mode, as the model it is a form of."""
    import torch

    module.eval()

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        arguments = [
            torch.from_numpy(np.ascontiguousarray(inputs[spec.name])) for spec in model.inputs
        ]
        with torch.inference_mode(), _torch_threads(num_threads):
            result = module(*arguments)
        tensors = result if isinstance(result, (tuple, list)) else (result,)
        if len(tensors) != len(model.outputs):
            raise StageError(
                "running the torch model",
                found=f"{len(tensors)} outputs",
                expected=f"{len(model.outputs)}: {', '.join(spec.name for spec in model.outputs)}",
            )
        return {
            spec.name: tensor.numpy() for spec, tensor in zip(model.outputs, tensors, strict=True)
        }

    return run


def _onnx_runner(model: ModelHandle, num_threads: int, *, optimize: bool) -> Run:
    from edgekit.compiler.session import open_session, run_session

    session = open_session(
        model.path / ONNX_FILE,
        num_threads=num_threads,
        optimization="all" if optimize else "off",
    )

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_session(session, inputs, batch_size=len(next(iter(inputs.values()))))

    return run


def _pad(batch: Mapping[str, Array], size: int) -> dict[str, Array]:
    import numpy as np

    return {
        name: np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
        for name, array in batch.items()
    }


def _require_declared(specs: Sequence[TensorSpec], outputs: Mapping[str, Array]) -> None:
    for spec in specs:
        sizes = outputs[spec.name].shape[1:] if spec.name in outputs else None
        if sizes is None or spec.shape[1:] != sizes:
            raise StageError(
                f"running the model: output '{spec.name}'",
                found="no such output" if sizes is None else f"[batch, {_list(sizes)}]",
                expected=f"[batch, {_list(spec.shape[1:])}]",
            )


def _list(sizes: Sequence[int | None]) -> str:
    return ", ".join(str(size) for size in sizes)


@contextlib.contextmanager
def _torch_threads(num_threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
