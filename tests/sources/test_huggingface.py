from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgekit.core.canonical import sha256_tree
from edgekit.core.errors import InputError, StageError
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.stage import Stage, StageContext, StageResult
from edgekit.data.datasets.npz import Npz
from edgekit.data.metrics.top_1 import Top1
from edgekit.data.source import Data
from edgekit.sources.huggingface import Huggingface
from edgekit.stages.export import Export
from edgekit.zoo.checkpoint import load
from edgekit.zoo.exporters.transformer import export_transformer
from edgekit.zoo.hugging_face import HuggingFaceModule, build_from_config, read_config
from edgekit.zoo.pretrained import find_folder, image_size, read_pretrained
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BERT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
MakeContext = Callable[..., StageContext]


def save_pretrained(
    folder: Path,
    model: PreTrainedModel,
    prepared: dict[str, Any] | None = None,
) -> Path:
    """Save as on the hub, with batch statistics that are not those of a fresh network."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    with quiet():
        model.save_pretrained(folder)
    if prepared is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    """Import the library, which takes seconds, for the tests that run and not for those listed."""
    with quiet():
        import transformers

    return transformers


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, transformers: ModuleType) -> dict[str, Path]:
    """Save one tiny model of each kind."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    resnet = transformers.ResNetConfig(
        num_channels=1,
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label={0: "cat", 1: "dog", 2: "owl"},
        label2id={"cat": 0, "dog": 1, "owl": 2},
    )
    mobilenet = transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.25, num_labels=4)
    bert = transformers.BertConfig(**BERT, num_labels=3)
    with quiet():
        models = {
            "resnet": transformers.ResNetForImageClassification(resnet),
            "mobilenet": transformers.MobileNetV2ForImageClassification(mobilenet),
            "bert": transformers.BertForSequenceClassification(bert),
            "features": transformers.BertModel(bert, add_pooling_layer=False),
        }
    prepared = {"resnet": {"size": {"shortest_edge": 16}}}
    return {
        name: save_pretrained(root / name, model, prepared.get(name))
        for name, model in models.items()
    }


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    def make(name: str, **options: object) -> StageContext:
        for part in ("work", "scratch"):
            (tmp_path / name / part).mkdir(parents=True)
        return StageContext(
            workdir=tmp_path / name / "work",
            scratch=tmp_path / name / "scratch",
            cache_dir=tmp_path,
            **options,
        )

    return make


def run(source: Huggingface, ctx: StageContext) -> StageResult:
    source.requires(None, ctx)
    result = source.run(None, ctx)
    source.ensures(None, result, ctx)
    return result


def export(before: ModelHandle, ctx: StageContext) -> StageResult:
    stage = Export()
    stage.requires(before, ctx)
    result = stage.run(before, ctx)
    stage.ensures(before, result, ctx)
    return result


def test_it_is_a_stage_without_input_that_gives_torch() -> None:
    source = Huggingface(huggingface="bert")
    assert isinstance(source, Stage)
    assert source.accepts == frozenset()
    assert source.produces(None) is ModelKind.TORCH


@pytest.mark.parametrize(
    ("name", "inputs", "output"),
    [
        ("resnet", {"pixel_values": (None, 1, 16, 16)}, ("logits", (None, 3))),
        ("mobilenet", {"pixel_values": (None, 3, 32, 32)}, ("logits", (None, 4))),
        (
            "bert",
            dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (None, 8)),
            ("logits", (None, 3)),
        ),
        (
            "features",
            dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (None, 8)),
            ("last_hidden_state", (None, 8, 16)),
        ),
    ],
)
def test_a_pretrained_model_is_loaded_exported_and_computes_the_same(
    folders: dict[str, Path],
    make_context: MakeContext,
    name: str,
    inputs: dict[str, tuple[int | None, ...]],
    output: tuple[str, tuple[int | None, ...]],
) -> None:
    is_text = "input_ids" in inputs
    source = Huggingface(huggingface=str(folders[name]), sequence_length=8 if is_text else None)
    loaded = run(source, make_context("load"))
    model = loaded.model
    assert {spec.name: spec.shape for spec in model.inputs} == inputs
    assert [(spec.name, spec.shape) for spec in model.outputs] == [output]
    exported = export(model, make_context("export"))
    assert exported.details["parity"]["optimizations_on"]["snr_db"] > 80
    graph = onnx.load(exported.model.path / "model.onnx")
    shapes = {
        info.name: tuple(dim.dim_value or None for dim in info.type.tensor_type.shape.dim)
        for info in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes == {**inputs, output[0]: output[1]}
    assert "BatchNormalization" not in exported.details["operators"]
    assert graph.opset_import[0].version == 18


def test_the_payload_is_complete_and_holds_no_pickle_and_no_path(
    folders: dict[str, Path], make_context: MakeContext
) -> None:
    result = run(Huggingface(huggingface=str(folders["resnet"])), make_context("load"))
    folder = result.model.path
    names = {path.name for path in folder.iterdir()}
    assert names == {"architecture.json", "signature.json", "surgery.json", "weights.safetensors"}
    content = json.loads((folder / "architecture.json").read_text())
    assert content["huggingface"] == "image-classification"
    assert content["options"]["inputs"] == ["pixel_values"]
    assert str(folders["resnet"]) not in (folder / "architecture.json").read_text()
    assert result.model.labels == ("cat", "dog", "owl")
    assert result.details == {"task": "image-classification", "model_type": "resnet"}


def test_the_same_model_gives_the_same_bytes(
    folders: dict[str, Path], make_context: MakeContext
) -> None:
    digests = []
    for turn in ("first", "second"):
        loaded = run(Huggingface(huggingface=str(folders["bert"])), make_context(turn)).model
        exported = export(loaded, make_context(f"{turn}-export")).model
        digests.append((sha256_tree(loaded.path), sha256_tree(exported.path)))
    assert digests[0] == digests[1]


def test_one_changed_weight_in_the_middle_is_found_by_the_name_of_its_layer(
    folders: dict[str, Path], make_context: MakeContext, tmp_path: Path
) -> None:
    layers = {
        "resnet": "resnet.encoder.stages.1.layers.0.layer.1.convolution",
        "bert": "bert.encoder.layer.0.intermediate.dense",
    }
    for name, layer in layers.items():
        before = run(Huggingface(huggingface=str(folders[name])), make_context(name)).model
        ctx = make_context(f"{name}-export")
        result = Export().run(before, ctx)
        graph = onnx.load(result.model.path / "model.onnx")
        (tensor,) = [one for one in graph.graph.initializer if one.name == f"{layer}.weight"]
        values = numpy_helper.to_array(tensor).copy()
        values.flat[values.size // 2] += 3
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        (tmp_path / f"{name}-broken").mkdir()
        onnx.save(graph, tmp_path / f"{name}-broken" / "model.onnx")
        model = msgspec.structs.replace(result.model, path=tmp_path / f"{name}-broken")
        with pytest.raises(StageError, match=rf"first layer that differs is '{layer}[/']"):
            Export().ensures(before, msgspec.structs.replace(result, model=model), ctx)


def test_data_decides_the_names_and_sizes_of_the_inputs(
    folders: dict[str, Path], make_context: MakeContext, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).standard_normal((60, 1, 20, 20)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=x, y=np.arange(60) % 3)
    names = ("cat", "dog", "owl")
    dataset = Npz(path=str(tmp_path / "images.npz"), inputs=("image",), label_names=names)
    options = {"data": Data(dataset=dataset), "metric": Top1()}
    source = Huggingface(huggingface=str(folders["resnet"]))
    loaded = run(source, make_context("load", **options))
    assert loaded.model.inputs == (TensorSpec("image", "float32", (None, 1, 20, 20)),)
    assert loaded.metrics[0].name == "top-1"
    exported = export(loaded.model, make_context("export", **options))
    graph = onnx.load(exported.model.path / "model.onnx").graph
    assert [info.name for info in graph.input] == ["image"]
    assert exported.metrics[0] == loaded.metrics[0]


@pytest.mark.parametrize(
    ("label_names", "message"),
    [
        (
            ("dog", "cat", "owl"),
            "the same in another order: found dog, cat, owl, expected cat, dog",
        ),
        (("a", "b"), "found 3 classes and data with 2 labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    folders: dict[str, Path],
    make_context: MakeContext,
    tmp_path: Path,
    label_names: tuple[str, ...],
    message: str,
) -> None:
    x = np.zeros((60, 1, 16, 16), np.float32)
    np.savez(tmp_path / "images.npz", x=x, y=np.arange(60) % len(label_names))
    data = Data(dataset=Npz(path=str(tmp_path / "images.npz"), label_names=label_names))
    source = Huggingface(huggingface=str(folders["resnet"]))
    with pytest.raises(InputError, match=message):
        source.run(None, make_context("load", data=data, metric=Top1()))


def test_a_folder_with_pickled_weights_alone_is_refused(
    folders: dict[str, Path], make_context: MakeContext, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes((folders["bert"] / "config.json").read_bytes())
    torch.save({}, tmp_path / "model" / "pytorch_model.bin")
    source = Huggingface(huggingface=str(tmp_path / "model"))
    with pytest.raises(
        InputError,
        match=r"found only pytorch_model\.bin.* expected model\.safetensors.* `model\.save_pretr",
    ):
        source.run(None, make_context("load"))


def copy_of(folder: Path, target: Path, **config: object) -> Path:
    """Copy a model and change its config."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    content = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**content, **config}))
    return target


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "brt"}, "unknown model_type 'brt'. Hint: Did you mean 'bert'"),
        (
            {"model_type": "own", "auto_map": {"AutoModel": "modeling.Own"}},
            "Models that bring their own code are not loaded",
        ),
        ({"architectures": ["BertForMaskedLM"]}, "Hint: Set model.task to one of"),
        ({"architectures": ["BertForImageClassification"]}, "loading the weights"),
        ({"hidden_size": 32}, "loading the weights of"),
        ({"num_attention_heads": "two"}, "loading the weights of|reading the config of"),
    ],
)
def test_a_config_that_does_not_work_is_explained(
    folders: dict[str, Path], tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = copy_of(folders["bert"], tmp_path / "model", **config)
    with pytest.raises(InputError, match=message):
        read_pretrained(folder, None)


def test_a_head_that_was_never_trained_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(
        InputError, match=r"found no values for .*classifier\.bias.* trained for this task"
    ):
        read_pretrained(folders["features"], "text-classification")


def test_truncated_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["bert"], tmp_path / "model")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="download may be incomplete"):
        read_pretrained(folder, None)


def test_nan_weights_are_refused(
    transformers: ModuleType, folders: dict[str, Path], make_context: MakeContext, tmp_path: Path
) -> None:
    with quiet():
        model = transformers.BertForSequenceClassification.from_pretrained(folders["bert"])
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    folder = save_pretrained(tmp_path / "model", model)
    with pytest.raises(InputError, match=r"tensor 'classifier\.bias': found 1 of 3 values NaN"):
        Huggingface(huggingface=str(folder)).run(None, make_context("load"))


def test_shards_outside_the_folder_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["bert"], tmp_path / "model")
    index = {"weight_map": {"classifier.bias": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names weights in '\.\./secret\.safetensors'"):
        read_pretrained(folder, None)


def test_a_folder_without_weights_or_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        read_pretrained(tmp_path, None)


def test_half_precision_weights_become_single(
    transformers: ModuleType, folders: dict[str, Path], tmp_path: Path
) -> None:
    with quiet():
        model = transformers.BertForSequenceClassification.from_pretrained(folders["bert"]).half()
    found = read_pretrained(save_pretrained(tmp_path / "model", model), None)
    assert {tensor.dtype for tensor in found.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("place", ["/nowhere/model", "a/b/c", "../model"])
def test_a_folder_that_is_not_there_is_named(place: str) -> None:
    with pytest.raises(InputError, match=r"found no such folder, expected a folder with config"):
        find_folder(place, None)


def test_an_id_that_cannot_be_downloaded_names_the_alternative(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"could not be downloaded.* give the path of its folder"):
        find_folder("edgekit/no-such-model", None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("prepared", "expected"),
    [
        ({"size": 24}, (24, 24)),
        ({"size": {"height": 20, "width": 24}}, (20, 24)),
        ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": True}, (32, 32)),
        ({"size": [28, 30]}, (28, 30)),
        ({}, (224, 224)),
    ],
)
def test_the_image_size_is_that_of_the_preparation_or_the_config(
    transformers: ModuleType, tmp_path: Path, prepared: dict[str, Any], expected: tuple[int, int]
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
    config = transformers.MobileNetV2Config()
    assert image_size(tmp_path, config, None) == expected
    assert image_size(tmp_path, config, 64) == (64, 64)


def test_an_unknown_image_size_is_asked_for(transformers: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Hint: Set model\.image_size"):
        image_size(tmp_path, transformers.ResNetConfig(), None)


def test_more_tokens_than_positions_are_refused(
    folders: dict[str, Path], make_context: MakeContext
) -> None:
    source = Huggingface(huggingface=str(folders["bert"]), sequence_length=33)
    with pytest.raises(InputError, match="found 33, expected at most 32"):
        source.run(None, make_context("load"))


def test_an_architecture_that_optimum_does_not_know_is_refused(
    transformers: ModuleType, make_context: MakeContext, tmp_path: Path
) -> None:
    config = transformers.FunnelConfig(vocab_size=20, d_model=16, n_head=2, d_head=8, d_inner=16)
    with quiet():
        model = transformers.FunnelForSequenceClassification(config)
    folder = save_pretrained(tmp_path / "model", model)
    with pytest.raises(InputError, match=r"exporting a funnel model .*no rule for it in optimum"):
        Huggingface(huggingface=str(folder)).run(None, make_context("load"))


def test_a_config_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InputError, match="reading the config of a resnet model: found layer_type"):
        read_config({"model_type": "resnet", "layer_type": "odd"})


def test_damaged_options_of_an_architecture_are_refused() -> None:
    with pytest.raises(InputError, match=r"architecture\.json of a Hugging Face model"):
        build_from_config("text-classification", {"config": {}})
    options = {"config": {"model_type": "resnet"}, "inputs": ["x"], "outputs": ["logits"]}
    with pytest.raises(InputError, match="building a resnet model for text-classification"):
        build_from_config("text-classification", options)


def test_a_graph_with_other_inputs_than_declared_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    found = read_pretrained(folders["bert"], None)
    module = HuggingFaceModule(found.model, ("input_ids", "attention_mask"), ("logits",))
    specs = tuple(TensorSpec(name, "int64", (None, 8)) for name in module.inputs)
    outputs = (TensorSpec("logits", "float32", (None, 3)),)
    with pytest.raises(StageError, match="inputs of the graph: found attention_mask, input_ids, t"):
        export_transformer(module, found.task, specs, outputs, opset=18, scratch=tmp_path)
    with pytest.raises(StageError, match="exporting a bert model by optimum"):
        export_transformer(module, found.task, specs, outputs, opset=5, scratch=tmp_path)


def test_what_was_saved_loads_without_the_folder_it_came_from(
    folders: dict[str, Path], make_context: MakeContext, tmp_path: Path
) -> None:
    folder = copy_of(folders["bert"], tmp_path / "model")
    model = run(Huggingface(huggingface=str(folder), sequence_length=8), make_context("a")).model
    for path in folder.iterdir():
        path.unlink()
    loaded = load(model)
    assert isinstance(loaded.module, HuggingFaceModule)
    assert not loaded.module.training


@pytest.mark.parametrize(
    ("source", "revision", "warns"),
    [("owner/name", None, True), ("owner/name", "a" * 40, False), ("/models/resnet", None, False)],
)
def test_hub_model_without_a_commit_is_warned_about(
    source: str, revision: str | None, warns: bool
) -> None:
    entry = Huggingface(huggingface=source, revision=revision)
    assert bool(entry._warnings()) is warns
