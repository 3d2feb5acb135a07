"""Random small networks: every block the compiler fuses, in shapes nobody would choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx

from tests.compiler.onnx_models import GraphBuilder


class Image(NamedTuple):
    """A tensor [1, channels, height, width] of the graph."""

    name: str
    channels: int
    height: int
    width: int

    @property
    def shape(self) -> list[int]:
        return [1, self.channels, self.height, self.width]


class RandomBuilder(GraphBuilder):
    """Append random blocks.

    `inner` names results that belong to a pattern and are never quantized by themselves.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.inner: set[str] = set()

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def fused(self, name: str) -> str:
        """Note that `name` goes into the operator behind it without being quantized."""
        self.inner.add(name)
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.float32(value))

    def convolution(self, x: Image, outputs: int, *, stride: int = 1, size: int = 3) -> Image:
        """Convolve with random padding, dilation and groups that fit."""
        kernel = [min(size, x.height), min(size, x.width)]
        dilation = 2 if size == 3 and min(x.height, x.width) > 5 and self.chance(0.2) else 1
        reach = [(k - 1) * dilation + 1 for k in kernel]
        before = [r // 2 for r in reach]
        after = [r - 1 - b for r, b in zip(reach, before, strict=True)]
        if size > 1 and stride == 2 and self.chance(0.5):
            before = [0, 0]  # as TensorFlow pads
        groups = 2 if x.channels % 2 == 0 and outputs % 2 == 0 and self.chance(0.2) else 1
        return self._convolved(x, outputs, kernel, [*before, *after], stride, dilation, groups)

    def depthwise(self, x: Image) -> Image:
        size, stride = self.pick(3, 5), self.pick(1, 2)
        kernel = [min(size, x.height), min(size, x.width)]
        pads = [k // 2 for k in kernel] * 2
        return self._convolved(x, x.channels, kernel, pads, stride, 1, x.channels)

    def _convolved(
        self,
        x: Image,
        outputs: int,
        kernel: list[int],
        pads: list[int],
        stride: int,
        dilation: int,
        groups: int,
    ) -> Image:
        inputs = [x.name, self.weight(outputs, x.channels // groups, *kernel)]
        if self.chance(0.8):
            inputs.append(self.constant(self.rng.normal(0, 0.3, outputs).astype(np.float32)))
        steps, spread = [stride, stride], [dilation, dilation]
        name = self.op("Conv", *inputs, pads=pads, strides=steps, dilations=spread, group=groups)
        height, width = (
            (size + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilation - 1) // stride + 1
            for i, size in enumerate((x.height, x.width))
        )
        return Image(name, outputs, height, width)

    def activation(self, x: Image) -> Image:
        """Apply one of the activations, or none."""
        kinds: list[Callable[[str], str]] = [
            lambda name: name,
            lambda name: self.op("Relu", self.fused(name)),
            self._relu6,
            lambda name: self.op("HardSwish", name),
            self._hard_swish,
            lambda name: self.op("HardSigmoid", name, alpha=1 / 6, beta=0.5),
            self._silu,
            lambda name: self.op("LeakyRelu", name, alpha=0.1),
            lambda name: self.op("Sigmoid", name),
        ]
        return x._replace(name=kinds[self.pick(*range(len(kinds)))](x.name))

    def _relu6(self, name: str) -> str:
        return self.op("Clip", self.fused(name), self.scalar(0), self.scalar(6))

    def _hard_swish(self, name: str) -> str:
        shifted = self.fused(self.op("Add", name, self.scalar(3)))
        clipped = self.fused(self.op("Clip", shifted, self.scalar(0), self.scalar(6)))
        return self.op("Div", self.fused(self.op("Mul", name, clipped)), self.scalar(6))

    def _silu(self, name: str) -> str:
        return self.op("Mul", name, self.fused(self.op("Sigmoid", name)))

    def residual(self, x: Image) -> Image:
        inner = self.activation(self.convolution(x, self.pick(4, 7, 16)))
        y = self.convolution(inner, x.channels, size=self.pick(1, 3))
        if self.chance(0.5):
            x, y = y, x
        total = x._replace(name=self.op("Add", y.name, x.name))
        return (
            total._replace(name=self.op("Relu", self.fused(total.name)))
            if self.chance(0.5)
            else total
        )

    def pooled(self, x: Image) -> Image:
        window = self.pick(2, 3)
        if min(x.height, x.width) < window:
            return x
        pad = self.pick(0, window // 2)
        # With padding, ONNX and onnxruntime disagree on windows that start behind the image.
        ceil = int(pad == 0 and self.chance(0.4))
        extra = {"count_include_pad": int(self.chance(0.5))}
        kind = "MaxPool" if self.chance(0.5) else "AveragePool"
        name = self.op(
            kind,
            x.name,
            kernel_shape=[window, window],
            strides=[2, 2],
            pads=[pad] * 4,
            ceil_mode=ceil,
            **({} if kind == "MaxPool" else extra),
        )

        def size(of: int) -> int:
            return (of + 2 * pad - window + ceil) // 2 + 1

        return Image(name, x.channels, size(x.height), size(x.width))

    def branches(self, x: Image) -> Image:
        left = self.activation(self.convolution(x, self.pick(3, 8), size=1))
        right = x if self.chance(0.3) else self.convolution(x, self.pick(4, 5))
        parts = [left.name, right.name]
        joined = self.op("Concat", *parts, axis=1)
        return x._replace(name=joined, channels=left.channels + right.channels)

    def squeeze_excite(self, x: Image) -> Image:
        inner = self.pick(2, 4)
        gate = Image(self.op("GlobalAveragePool", x.name), x.channels, 1, 1)
        gate = self.convolution(gate, inner, size=1)
        gate = gate._replace(name=self.op("Relu", self.fused(gate.name)))
        gate = self.convolution(gate, x.channels, size=1)
        kind = ("Sigmoid", "HardSigmoid")[self.pick(0, 1)]
        parts = [x.name, self.op(kind, gate.name)]
        return x._replace(name=self.op("Mul", *parts[:: self.pick(1, -1)]))

    def resized(self, x: Image) -> Image:
        if x.height * x.width > 100:
            return x
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        name = self.op(
            "Resize",
            x.name,
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return Image(name, x.channels, 2 * x.height, 2 * x.width)

    def padded(self, x: Image) -> Image:
        pads = self.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1]))
        name = self.fused(self.op("Pad", x.name, pads))
        return self._convolved(
            Image(name, x.channels, x.height + 1, x.width + 1), 6, [2, 2], [0] * 4, 1, 1, 1
        )

    def pair(self, x: Image) -> Image:
        kind = ("Add", "Mul", "Max", "Sub")[self.pick(0, 1, 2, 3)]
        other = self.convolution(x, x.channels, size=self.pick(1, 3))
        return x._replace(name=self.op(kind, x.name, other.name))

    def scores(self, x: Image) -> tuple[str, list[int]]:
        """End in scores, through an average or a flattened image."""
        features = x.channels
        if self.chance(0.6):
            flat = self.op("Flatten", self.op("GlobalAveragePool", x.name))
        else:
            features *= x.height * x.width
            flat = self.op("Flatten", x.name)
        weight, bias = self.weight(7, features), self.constant(np.full(7, 0.1, np.float32))
        return self.op("Gemm", flat, weight, bias, transB=1), [1, 7]


def random_model(seed: int, *, num_blocks: int = 6) -> tuple[onnx.ModelProto, set[str]]:
    """Build a float model of random blocks.

    Returns:
        The model, with one input `image`, and the results that are part of a pattern.
    """
    b = RandomBuilder(seed)
    image = Image("image", b.pick(1, 3, 5), b.pick(8, 11, 13), b.pick(8, 9, 14))
    x = b.activation(b.convolution(image, b.pick(5, 8, 12, 20), stride=b.pick(1, 2)))
    blocks: list[Callable[[Image], Image]] = [
        lambda x: b.activation(b.convolution(x, b.pick(4, 6, 17, 32), size=b.pick(1, 3, 5))),
        lambda x: b.activation(b.depthwise(x)),
        b.residual,
        b.pooled,
        b.branches,
        b.squeeze_excite,
        b.resized,
        b.padded,
        b.pair,
    ]
    for block in b.rng.permutation(len(blocks))[:num_blocks]:
        x = blocks[int(block)](x)
    output, shape = b.scores(x) if b.chance(0.7) else (x.name, x.shape)
    return b.model({"image": image.shape}, {output: shape}), b.inner
