"""The project's own ResNet-8 for Fashion-MNIST, not trained: speed doesn't depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


def resnet8(images: NDArray[np.float32], seed: int) -> onnx.ModelProto:
    """Return ResNet-8 for one image, its batch statistics taken from images.

    Args:
        images: float32 (images, 1, 28, 28).
        seed: Of the weights.
    """
    import torch

    from edgekit.compiler.onnx_file import specialise
    from edgekit.zoo.architectures.resnet8 import Resnet8
    from edgekit.zoo.exporters.dynamo import export_module

    torch.manual_seed(seed)
    options = Resnet8()
    module = options.build().train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # an average over all batches: here the one batch itself
    with torch.no_grad():
        module(torch.from_numpy(images))
    inputs, outputs = options.signature()
    exported = export_module(module, inputs, outputs, opset=18)
    return specialise(exported.graph)
