"""Transformers models exported by optimum, which knows how each architecture must be traced."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, StageError, require_module
from edgekit.core.model import TensorSpec
from edgekit.zoo.exporters.dynamo import check_size
from edgekit.zoo.exporters.shapes import settle_reshapes
from edgekit.zoo.exporters.signature import rename_inputs
from edgekit.zoo.exporters.tidy import WEIGHTED_OPS, tidy
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    import onnx
    from transformers import PreTrainedModel

    from edgekit.zoo.hugging_face import HuggingFaceModule, Task


def tensor_names(model: PreTrainedModel, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs and outputs that optimum exports a model with.

    Raises:
        InputError: Optimum is missing or can't export this type of model for this task.
    """
    with quiet():
        # Importing the rules registers them.
        require_module("optimum.exporters.onnx.model_configs", "hf")
        from optimum.exporters.tasks import TasksManager

        try:
            config = TasksManager.get_exporter_config_constructor(
                "onnx", model=model, task=task, library_name="transformers"
            )(model.config, task=task)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"exporting a {model.config.model_type} model for {task}",
                found="no rule for it in optimum",
                hint="Give the model as an .onnx file exported elsewhere",
            ) from error
        return tuple(config.inputs), tuple(config.outputs)


def export_transformer(
    module: HuggingFaceModule,
    task: Task,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    opset: int,
    scratch: Path,
) -> onnx.ModelProto:
    """Export through optimum, then fix every size but the batch and fold what follows from it.

    Args:
        module: The model to trace, pruned and trained as it is now.
        task: Decides the head and optimum's rule.
        inputs: Signature, in the order of the module's arguments.
        outputs: Signature, named as in the module.
        opset: ONNX operator set.
        scratch: Folder for optimum's files.

    Raises:
        StageError: Optimum or the tracer fails, or gives other inputs or outputs.
    """
    import onnx

    check_size(module)
    with quiet():
        require_module("optimum.exporters.onnx", "hf")
        require_module("onnxslim", "onnx")
        import onnxslim
        from optimum.exporters.onnx.convert import onnx_export_from_model

        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                onnx_export_from_model(
                    module.eval().model,
                    folder,
                    task=task,
                    opset=opset,
                    do_validation=False,
                    no_post_process=True,
                    preprocessors=[],
                    **_example_sizes(inputs),
                )
                graph = onnx.load(str(Path(folder) / "model.onnx"))
            # Tracing raises whatever the model's own code raises.
            except Exception as error:
                lines = str(error).strip().splitlines() or ["no reason given"]
                raise StageError(
                    f"exporting a {module.model.config.model_type} model by optimum",
                    found=f"{type(error).__name__}: {lines[0][:200]}",
                    hint=f"Opset {opset} may be too old for this architecture",
                ) from error
        _require_names(graph.graph.input, module.inputs, "inputs")
        _require_names(graph.graph.output, module.outputs, "outputs")
        mine = [spec.name for spec in inputs]
        rename_inputs(graph.graph, dict(zip(module.inputs, mine, strict=True)))
        del graph.graph.value_info[:]
        modules = {name for name, _ in module.model.named_modules()}
        tidy(graph, inputs, outputs, _scopes(graph.graph, modules))
        slim: onnx.ModelProto = onnxslim.slim(graph)
    settle_reshapes(slim)
    tidy(slim, inputs, outputs, _kept_scopes(slim.graph))
    return slim


def _example_sizes(inputs: Sequence[TensorSpec]) -> dict[str, int]:
    for spec in inputs:
        match spec.shape:
            case (_, int(channels), int(height), int(width)):
                return {"num_channels": channels, "height": height, "width": width}
            case (_, int(length)):
                return {"sequence_length": length}
    return {}


def _require_names(infos: Sequence[onnx.ValueInfoProto], names: Sequence[str], what: str) -> None:
    found, expected = {info.name for info in infos}, set(names)
    if found != expected:
        raise StageError(
            f"exporting by optimum: {what} of the graph",
            found=", ".join(sorted(found)),
            expected=", ".join(sorted(expected)),
        )


def _scopes(graph: onnx.GraphProto, modules: Set[str]) -> dict[str, str]:
    # The tracer names a node by its module's path: `/layer.0/dense/MatMul`.
    scopes = {}
    for node in graph.node:
        path = [part for part in node.name.split("/")[:-1] if part]
        scopes[node.name] = _module_name(path, modules)
    return scopes


def _module_name(path: Sequence[str], modules: Set[str]) -> str:
    # A sequence and its member are `layer/layer.1` to the tracer and `layer.1` to the model.
    short = [
        part for part, after in itertools.pairwise([*path, ""]) if not after.startswith(f"{part}.")
    ]
    name = ".".join(short)
    return name if name in modules else ".".join(path)


def _kept_scopes(graph: onnx.GraphProto) -> dict[str, str]:
    scopes = {}
    for node in graph.node:
        module, slash, _ = node.name.rpartition("/")
        is_layer = node.op_type in WEIGHTED_OPS and not slash
        # The slimmer names what it adds by the tracer's paths.
        scopes[node.name] = node.name if is_layer else module.strip("/").replace("/", ".")
    return scopes
