"""MobileNetV1.

Source: Howard et al., "MobileNets", 2017, table 1, with ReLU6 as in its authors' code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from bench.nets.builder import NetBuilder

# Channels behind the 1x1 convolution, stride of the depthwise one.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
           (1024, 1))  # fmt: skip


def mobilenet_v1(net: NetBuilder) -> onnx.ModelProto:
    """Return MobileNetV1: 13 depthwise-separable convolutions."""
    x = net.convolution(net.image, 32, 3, stride=2, function="relu6")
    for channels, stride in _BLOCKS:
        x = net.convolution(x, x.channels, 3, stride=stride, groups=x.channels, function="relu6")
        x = net.convolution(x, channels, 1, function="relu6")
    return net.finish(net.mean(x), 1000)
