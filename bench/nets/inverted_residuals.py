"""Nets of inverted residual blocks: MobileNetV2, MobileNetV3-Large and EfficientNet-Lite0.

Source: Sandler et al., "MobileNetV2", 2018, table 2; Howard et al., "Searching for MobileNetV3",
2019, table 1; Tan and Le, "EfficientNet", 2019, table 1, without squeeze-and-excitation and with
ReLU6, as its Lite variant has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import onnx

    from bench.nets.builder import Function, NetBuilder, Value

_BRANCH_GAIN = 0.5
_SQUEEZE = 4


class _Block(NamedTuple):
    kernel: int
    expanded: int
    channels: int
    stride: int
    function: Function = "relu6"
    has_squeeze: bool = False


def mobilenet_v2(net: NetBuilder) -> onnx.ModelProto:
    """Return MobileNetV2."""
    table = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
             (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))  # fmt: skip
    return _with_relu6(net, table)


def efficientnet_lite(net: NetBuilder) -> onnx.ModelProto:
    """Return EfficientNet-Lite0."""
    table = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
             (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    return _with_relu6(net, table)


def mobilenet_v3(net: NetBuilder) -> onnx.ModelProto:
    """Return MobileNetV3-Large: squeeze-and-excitation in some blocks, hard-swish in the deep."""
    relu, swish = "relu", "hard-swish"
    blocks = (
        _Block(3, 16, 16, 1, relu),
        _Block(3, 64, 24, 2, relu),
        _Block(3, 72, 24, 1, relu),
        _Block(5, 72, 40, 2, relu, has_squeeze=True),
        *[_Block(5, 120, 40, 1, relu, has_squeeze=True)] * 2,
        _Block(3, 240, 80, 2, swish),
        _Block(3, 200, 80, 1, swish),
        *[_Block(3, 184, 80, 1, swish)] * 2,
        _Block(3, 480, 112, 1, swish, has_squeeze=True),
        _Block(3, 672, 112, 1, swish, has_squeeze=True),
        _Block(5, 672, 160, 2, swish, has_squeeze=True),
        *[_Block(5, 960, 160, 1, swish, has_squeeze=True)] * 2,
    )
    x = net.convolution(net.image, 16, 3, stride=2, function=swish)
    for block in blocks:
        x = _inverted_residual(net, x, block)
    x = net.mean(net.convolution(x, 960, 1, function=swish))
    return net.finish(net.activation(net.plain_convolution(x, 1280), swish), 1000)


def _with_relu6(
    net: NetBuilder, table: tuple[tuple[int, int, int, int, int], ...]
) -> onnx.ModelProto:
    """Build a net from rows of expansion, channels, blocks, stride of the first, kernel."""
    x = net.convolution(net.image, 32, 3, stride=2, function="relu6")
    for expansion, channels, num_blocks, stride, kernel in table:
        for index in range(num_blocks):
            first = 1 if index else stride
            x = _inverted_residual(net, x, _Block(kernel, expansion * x.channels, channels, first))
    return net.finish(net.mean(net.convolution(x, 1280, 1, function="relu6")), 1000)


def _inverted_residual(net: NetBuilder, x: Value, block: _Block) -> Value:
    y, wide = x, block.expanded
    is_residual = block.stride == 1 and x.channels == block.channels
    if wide != x.channels:
        y = net.convolution(y, wide, 1, function=block.function)
    y = net.convolution(
        y, wide, block.kernel, stride=block.stride, groups=wide, function=block.function
    )
    if block.has_squeeze:
        y = net.multiply(y, _excitation(net, y))
    y = net.convolution(y, block.channels, 1, gain=_BRANCH_GAIN if is_residual else 1.0)
    return net.add(x, y) if is_residual else y


def _excitation(net: NetBuilder, x: Value) -> Value:
    """Return a factor per channel, from the means of all channels."""
    narrow = -(-x.channels // _SQUEEZE // 8) * 8
    squeezed = net.activation(net.plain_convolution(net.mean(x), narrow), "relu")
    return net.activation(net.plain_convolution(squeezed, x.channels), "hard-sigmoid")
