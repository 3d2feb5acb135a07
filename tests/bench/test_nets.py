from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from bench.nets.builder import NetBuilder, Value
from bench.nets.catalog import NETS
from bench.nets.images import draw_images

IMAGES = draw_images(4, channels=3, size=28, seed=0)


def every_layer(net: NetBuilder) -> tuple[onnx.ModelProto, Value]:
    x = net.convolution(net.image, 8, 3, stride=2, function="relu6")
    y = net.convolution(x, 8, 5, groups=8, function="hard-swish")
    factor = net.activation(net.plain_convolution(net.mean(y), 8), "hard-sigmoid")
    z = net.add(x, net.convolution(net.multiply(y, factor), 8, 1, gain=0.5))
    mean = net.mean(net.max_pool(net.activation(z, "relu"), 3, 2))
    return net.finish(mean, 5), mean


def run(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in IMAGES])


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    with torch.no_grad():
        return every_layer(NetBuilder(IMAGES, seed=1))[0]


def test_the_graph_computes_what_the_builder_followed(model: onnx.ModelProto) -> None:
    with torch.no_grad():
        _, mean = every_layer(NetBuilder(IMAGES, seed=1))
    classifier = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    weight, bias = list(classifier.values())[-2:]
    expected = mean.values.flatten(1).numpy() @ weight.T + bias
    np.testing.assert_allclose(run(model), expected, rtol=1e-4, atol=1e-4)


def test_outputs_depend_on_the_image(model: onnx.ModelProto) -> None:
    outputs = run(model)
    assert outputs.std(axis=0).mean() == pytest.approx(1.0, rel=0.3)


def test_the_same_seed_gives_the_same_weights(model: onnx.ModelProto) -> None:
    with torch.no_grad():
        again = every_layer(NetBuilder(IMAGES, seed=1))[0]
    assert again.SerializeToString() == model.SerializeToString()


def test_the_catalog_names_every_net_once() -> None:
    assert len(set(NETS)) == len(NETS) == 7
