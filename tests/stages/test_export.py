from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.schema import Where, resolve_variant
from edgekit.core.stage import Stage, StageContext, StageResult
from edgekit.data.datasets.npz import Npz
from edgekit.data.metrics.top_1 import Top1
from edgekit.data.source import Data
from edgekit.evaluation.predict import predict
from edgekit.stages.export import Export
from edgekit.zoo.architecture import ArchitectureChoice
from edgekit.zoo.architectures.resnet8 import Resnet8
from edgekit.zoo.checkpoint import ArchitectureRef, load, save
from edgekit.zoo.exporters import dynamo
from edgekit.zoo.exporters.dynamo import export_module


def context(folder: Path, **options: object) -> StageContext:
    for name in ("work", "scratch", "cache"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return StageContext(
        workdir=folder / "work",
        scratch=folder / "scratch",
        cache_dir=folder / "cache",
        **options,
    )


def save_network(folder: Path) -> ModelHandle:
    """Save a small ResNet whose batch statistics are not those of a fresh one."""
    choice = ArchitectureChoice(architecture="resnet8", options=Resnet8(width=4, image_size=12))
    reference = ArchitectureRef.of_zoo(choice)
    module = reference.build(seed=1)
    torch.manual_seed(2)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    inputs, outputs = choice.entry().signature()
    labels = tuple("abcdefghij")
    return save(
        module, folder, architecture=reference, inputs=inputs, outputs=outputs, labels=labels
    )


class Exported(msgspec.Struct):
    before: ModelHandle
    result: StageResult
    ctx: StageContext

    def graph(self) -> onnx.ModelProto:
        return onnx.load(self.result.model.path / "model.onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export once for all tests that only look at the result."""
    folder = tmp_path_factory.mktemp("export")
    before = save_network(folder / "network")
    x = np.random.default_rng(0).standard_normal((60, 1, 12, 12)).astype(np.float32)
    np.savez(folder / "images.npz", x=x, y=np.arange(60) % 10)
    data = Data(dataset=Npz(path=str(folder / "images.npz")))
    ctx = context(folder, data=data, metric=Top1())
    return Exported(before, Export().run(before, ctx), ctx)


@pytest.fixture
def save_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelHandle]:
    """Save a module that is built by Python code."""

    def build(
        code: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> ModelHandle:
        name = f"factory_{abs(hash(code))}"
        (tmp_path / f"{name}.py").write_text(f"import torch\nfrom torch import nn\n\n{code}")
        monkeypatch.syspath_prepend(str(tmp_path))
        reference = ArchitectureRef.of_python(f"{name}:Net", {})
        module = reference.build(allow_code=True)
        return save(module, tmp_path / name, architecture=reference, inputs=inputs, outputs=outputs)

    return build


def test_it_is_a_stage_from_torch_to_onnx() -> None:
    stage = Export()
    assert isinstance(stage, Stage)
    assert stage.accepts == {ModelKind.TORCH}
    assert stage.produces(ModelKind.TORCH) is ModelKind.ONNX


@pytest.mark.parametrize("opset", [17, 21])
def test_an_opset_that_was_not_tried_is_refused(opset: int) -> None:
    with pytest.raises(InputError, match=f"opset is {opset}: expected int [<>]= (18|20)"):
        resolve_variant({"export": {"opset": opset}}, "stages", Where())


def test_the_graph_has_the_names_of_the_signature_and_an_open_batch(exported: Exported) -> None:
    graph = exported.graph().graph
    shapes = {
        info.name: [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*graph.input, *graph.output)
    }
    assert shapes == {"image": ["batch", 1, 12, 12], "logits": ["batch", 10]}
    model = exported.result.model
    assert (model.kind, model.inputs, model.labels) == (
        ModelKind.ONNX,
        exported.before.inputs,
        exported.before.labels,
    )


def test_it_is_one_file_with_the_asked_opset(exported: Exported) -> None:
    assert [path.name for path in exported.result.model.path.iterdir()] == ["model.onnx"]
    assert [(entry.domain, entry.version) for entry in exported.graph().opset_import] == [("", 18)]


def test_batch_normalisation_is_folded(exported: Exported) -> None:
    operators = exported.result.details["operators"]
    assert operators == {"Add": 3, "Conv": 9, "Gemm": 1, "ReduceMean": 1, "Relu": 7}


def test_layers_carry_the_names_of_their_modules(exported: Exported) -> None:
    modules = dict(load(exported.before).module.named_modules())
    layers = [node.name for node in exported.graph().graph.node if node.op_type in ("Conv", "Gemm")]
    assert set(layers) <= set(modules)
    assert len(set(layers)) == 10
    names = [node.name for node in exported.graph().graph.node]
    assert len(set(names)) == len(names)


def test_the_file_tells_nothing_of_where_it_was_made(exported: Exported) -> None:
    content = (exported.result.model.path / "model.onnx").read_bytes()
    for secret in (b"site-packages", b"stack_trace", b"/edgekit", str(Path.home()).encode()):
        assert secret not in content
    assert torch.__version__.encode() not in content


def test_accuracy_and_cost_are_measured(exported: Exported) -> None:
    found = {metric.name: metric for metric in exported.result.metrics}
    assert set(found) == {"top-1", "params", "macs", "size_bytes"}
    assert 0 <= found["top-1"].value <= 1
    assert found["macs"].value > found["params"].value > 0


def test_parity_is_reported_for_both_ways_to_run(exported: Exported) -> None:
    parity = exported.result.details["parity"]
    assert set(parity) == {"optimizations_off", "optimizations_on"}
    for figures in parity.values():
        # Measured 125 dB; 100 leaves room for another order of summation.
        assert figures["snr_db"] > 100
        assert figures["top1_agreement"] == 1.0


def test_a_sound_export_keeps_its_promise(exported: Exported) -> None:
    Export().ensures(exported.before, exported.result, exported.ctx)


@pytest.mark.parametrize("layer", ["block2.body.first.conv", "block2.shortcut.conv", "classifier"])
def test_one_changed_weight_in_the_middle_is_found_by_the_name_of_its_layer(
    exported: Exported, tmp_path: Path, layer: str
) -> None:
    graph = exported.graph()
    (tensor,) = [one for one in graph.graph.initializer if one.name == f"{layer}.weight"]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[values.size // 2] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(graph, tmp_path / "model.onnx")
    model = msgspec.structs.replace(exported.result.model, path=tmp_path)
    broken = msgspec.structs.replace(exported.result, model=model)
    with pytest.raises(StageError, match=rf"the first layer that differs is '{layer}' \("):
        Export().ensures(exported.before, broken, exported.ctx)


def test_a_graph_that_works_for_one_batch_only_is_refused(
    exported: Exported, tmp_path: Path
) -> None:
    graph = exported.graph()
    graph.graph.node[-1].output[0] = "inner"
    target = numpy_helper.from_array(np.array([8, 10]), "target")
    graph.graph.initializer.append(target)
    graph.graph.node.append(onnx.helper.make_node("Reshape", ["inner", "target"], ["logits"]))
    onnx.save(graph, tmp_path / "model.onnx")
    model = msgspec.structs.replace(exported.result.model, path=tmp_path)
    broken = msgspec.structs.replace(exported.result, model=model)
    with pytest.raises(StageError, match="running the exported model with a batch of 1: found"):
        Export().ensures(exported.before, broken, exported.ctx)


def test_another_process_writes_the_same_bytes_and_prints_nothing(
    exported: Exported, tmp_path: Path
) -> None:
    script = """
import sys
from pathlib import Path
from edgekit.core.stage import StageContext
from edgekit.stages.export import Export
from edgekit.zoo.checkpoint import open_folder
work = Path(sys.argv[2])
ctx = StageContext(workdir=work, scratch=work, cache_dir=work)
before = open_folder(Path(sys.argv[1]))
Export().requires(before, ctx)
result = Export().run(before, ctx)
Export().ensures(before, result, ctx)
assert result.warnings == ("no data: parity of torch and ONNX was checked on random inputs",)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(exported.before.path), str(tmp_path)],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONHASHSEED": "7",
            "OMP_NUM_THREADS": "1",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    first = exported.result.model.path / "model.onnx"
    assert (tmp_path / "model.onnx").read_bytes() == first.read_bytes()


def test_several_inputs_and_outputs_keep_their_order(
    save_factory: Callable[..., ModelHandle], tmp_path: Path
) -> None:
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.left, self.right = nn.Linear(4, 3), nn.Linear(5, 2)
    def forward(self, ids, size):
        return self.left(self.words(ids).mean(1)), self.right(size)
"""
    inputs = (TensorSpec("ids", "int64", (None, 6)), TensorSpec("size", "float32", (None, 5)))
    outputs = (TensorSpec("kind", "float32", (None, 3)), TensorSpec("box", "float32", (None, 2)))
    before = save_factory(code, inputs, outputs)
    ctx = context(tmp_path, allow_code=True)
    result = Export(opset=20).run(before, ctx)
    Export().ensures(before, result, ctx)
    graph = onnx.load(result.model.path / "model.onnx")
    assert [info.name for info in graph.graph.input] == ["ids", "size"]
    assert [info.name for info in graph.graph.output] == ["kind", "box"]
    assert graph.opset_import[0].version == 20
    given = {"ids": np.arange(18).reshape(3, 6) % 9, "size": np.ones((3, 5), np.float32)}
    for name, array in predict(before, given, allow_code=True).items():
        np.testing.assert_allclose(predict(result.model, given)[name], array, rtol=1e-5, atol=1e-6)


def test_a_model_that_overflows_is_refused_before_it_is_compared(
    save_factory: Callable[..., ModelHandle], tmp_path: Path
) -> None:
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
        nn.init.constant_(self.fc.weight, 3e38)
    def forward(self, x):
        return self.fc(x) * 10
"""
    before = save_factory(
        code, (TensorSpec("x", "float32", (None, 4)),), (TensorSpec("y", "float32", (None, 2)),)
    )
    with pytest.raises(
        StageError, match="the torch model on golden inputs: output 'y': found 16 of"
    ):
        Export().run(before, context(tmp_path, allow_code=True))


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    before = save_network(tmp_path / "network")
    module = load(before).module
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] = float("nan")
    broken = save(
        module,
        tmp_path / "broken",
        architecture=load(before).architecture,
        inputs=before.inputs,
        outputs=before.outputs,
    )
    with pytest.raises(InputError, match=r"tensor 'stem\.conv\.weight': found 1 of"):
        Export().run(broken, context(tmp_path))


X = (TensorSpec("x", "float32", (None, 4)),)
Y = (TensorSpec("y", "float32", (None, 4)),)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class FixedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 4) + 1


def test_a_forward_that_depends_on_the_values_cannot_be_captured() -> None:
    with pytest.raises(StageError, match=r"exporting the torch model to ONNX: .*can't be captured"):
        export_module(Branching(), X, Y, opset=18)


def test_a_forward_for_one_batch_size_is_refused() -> None:
    with pytest.raises(StageError, match=r"works for one batch size only \('x'\)"):
        export_module(FixedBatch(), X, Y, opset=18)


def test_an_opset_that_the_exporter_does_not_reach_is_refused() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # The axes of ReduceMean are an input from opset 18 on, and an attribute before.
            return x + x.mean(1, keepdim=True)

    with pytest.raises(StageError, match=r"found opset 18.* expected opset 17"):
        export_module(Mean(), X, Y, opset=17)


def test_more_outputs_than_declared_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    with pytest.raises(StageError, match="found 2 outputs, expected 1: y"):
        export_module(Two(), X, Y, opset=18)


def test_a_fixed_batch_stays_fixed() -> None:
    fixed = (TensorSpec("x", "float32", (1, 4)),)
    graph = export_module(nn.Linear(4, 4), fixed, Y, opset=18).graph.graph
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [1, 4]


def test_a_model_too_large_for_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamo, "MAX_BYTES", 79)
    with pytest.raises(StageError, match="the most one ONNX file holds"):
        export_module(nn.Linear(4, 4), X, Y, opset=18)


def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    handle = ModelHandle(ModelKind.TORCH, tmp_path, X, Y)
    with pytest.raises(InputError, match=r"pip install 'edgekit\[onnx\]'"):
        Export().requires(handle, context(tmp_path))


def test_importing_the_stage_loads_no_framework() -> None:
    script = (
        "import sys, edgekit.stages.export, edgekit.sources.onnx, edgekit.sources.huggingface\n"
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'transformers', 'optimum'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    folder = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=folder)
