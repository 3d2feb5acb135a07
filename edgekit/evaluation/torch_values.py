"""Inner values of torch models under the names that an exported ONNX graph gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node
from torch.nn.modules.batchnorm import _BatchNorm

from edgekit.zoo.exporters.tidy import module_of

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    Array = NDArray[Any]


def program_values(
    program: ExportedProgram, inputs: Sequence[Array], outputs: Sequence[str]
) -> dict[str, Array]:
    """Run an exported program node by node.

    Args:
        program: The program that torch's exporter wrote the graph from: its node names are the
            graph's value names.
        inputs: Arrays in the order of the signature.
        outputs: Names the graph gives to what the program returns, in that order.

    Returns:
        Arrays by value name.
    """
    recorder = _Recorder(program.graph_module)
    with torch.inference_mode():
        recorder.run(*_flat_arguments(program, inputs))
    values = recorder.values
    for spec, name in zip(program.graph_signature.output_specs, outputs, strict=True):
        inner = getattr(spec.arg, "name", None)
        if inner in values:
            values[name] = values[inner]
    return values


def module_values(
    model: nn.Module, arguments: Mapping[str, Array], graph: onnx.ModelProto
) -> dict[str, Array]:
    """Run a module and give what its innermost modules return the graph's value names.

    Batch normalisation that was folded is taken together with the layer before it. A module that
    is called more than once is left out, since its name stands for several values.

    Args:
        model: The module that was traced.
        arguments: Arrays by argument name.
        graph: The tidied graph, whose node names hold module names.

    Returns:
        Arrays by value name, for the last node of each module.
    """
    last = {module_of(node): node.output[0] for node in graph.graph.node if module_of(node)}
    calls = _watch_calls(
        model, {name: torch.from_numpy(value) for name, value in arguments.items()}
    )
    times = Counter(call.name for call in calls)
    results: dict[str, torch.Tensor] = {}
    makers: dict[int, str] = {}
    for call in calls:
        source = makers.get(id(call.given))
        is_folded = call.is_norm and source is not None and call.name not in last
        name = source if is_folded and source is not None else call.name
        results[name] = call.copy
        makers[id(call.result)] = name
    return {
        last[name]: result.numpy()
        for name, result in results.items()
        if name in last and times[name] == 1
    }


class _Call(NamedTuple):
    """One call of an innermost module; the tensors are kept so that their ids stay theirs."""

    name: str
    is_norm: bool
    given: object
    result: torch.Tensor
    copy: torch.Tensor


def _watch_calls(model: nn.Module, arguments: Mapping[str, torch.Tensor]) -> list[_Call]:
    calls: list[_Call] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:  # noqa: ANN401
            if isinstance(result, torch.Tensor):
                # A copy: an activation in place would change it later.
                first = given[0] if given else None
                is_norm = isinstance(module, _BatchNorm)
                calls.append(_Call(name, is_norm, first, result, result.clone()))

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if name and not any(module.children())
    ]
    try:
        with torch.inference_mode():
            model(**arguments)
    finally:
        for handle in handles:
            handle.remove()
    return calls


class _Recorder(Interpreter):
    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.values: dict[str, Array] = {}

    def run_node(self, n: Node) -> Any:  # noqa: ANN401 - whatever a node gives
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            self.values[n.name] = result.detach().numpy()
        return result


def _flat_arguments(program: ExportedProgram, inputs: Sequence[Array]) -> list[Any]:
    given = iter(inputs)
    arguments: list[Any] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            arguments.append(torch.from_numpy(next(given)))
        elif spec.target in program.state_dict:
            arguments.append(program.state_dict[spec.target])
        else:
            arguments.append(program.constants[str(spec.target)])
    return arguments
