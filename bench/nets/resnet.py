"""ResNet-18 and ResNet-50.

Source: He et al., "Deep Residual Learning for Image Recognition", 2015, table 1; the stride of a
bottleneck sits in its 3x3 convolution, as in today's implementations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from bench.nets.builder import NetBuilder, Value

_BRANCH_GAIN = 0.5


def resnet18(net: NetBuilder) -> onnx.ModelProto:
    """Return ResNet-18: two blocks of two 3x3 convolutions at each of four sizes."""
    x = _stem(net)
    for stage, blocks in enumerate((2, 2, 2, 2)):
        for block in range(blocks):
            x = _basic(net, x, 64 << stage, stride=2 if stage and not block else 1)
    return net.finish(net.mean(x), 1000)


def resnet50(net: NetBuilder) -> onnx.ModelProto:
    """Return ResNet-50: bottleneck blocks, 3, 4, 6 and 3 of them."""
    x = _stem(net)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            x = _bottleneck(net, x, 64 << stage, stride=2 if stage and not block else 1)
    return net.finish(net.mean(x), 1000)


def _stem(net: NetBuilder) -> Value:
    x = net.convolution(net.image, 64, 7, stride=2, function="relu")
    return net.max_pool(x, 3, 2)


def _basic(net: NetBuilder, x: Value, width: int, *, stride: int) -> Value:
    y = net.convolution(x, width, 3, stride=stride, function="relu")
    y = net.convolution(y, width, 3, gain=_BRANCH_GAIN)
    return net.activation(net.add(y, _shortcut(net, x, width, stride)), "relu")


def _bottleneck(net: NetBuilder, x: Value, width: int, *, stride: int) -> Value:
    y = net.convolution(x, width, 1, function="relu")
    y = net.convolution(y, width, 3, stride=stride, function="relu")
    y = net.convolution(y, 4 * width, 1, gain=_BRANCH_GAIN)
    return net.activation(net.add(y, _shortcut(net, x, 4 * width, stride)), "relu")


def _shortcut(net: NetBuilder, x: Value, channels: int, stride: int) -> Value:
    if stride == 1 and x.channels == channels:
        return x
    return net.convolution(x, channels, 1, stride=stride)
