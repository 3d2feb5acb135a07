"""Write an ONNX graph layer by layer while a few images flow through it.

Weights are He's: normal, of variance 2 / fan-in. Random deep nets forget their input and their
activations drift, so every convolution is followed by a batch normalisation whose statistics come
from the images that flow along, and is written the way an exporter writes it: folded into weights
and bias. So activations keep a sane range and outputs depend on the image.

Source: He et al., "Delving Deep into Rectifiers", 2015, equation 10; Ioffe and Szegedy, "Batch
Normalization", 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 18
INPUT, OUTPUT = "image", "logits"
_IR_VERSION = 8
_EPSILON = 1e-5
# Of the normalisation before an activation. Around 0, each layer would amplify any difference,
# rounding errors included, by 1.2 (Yang et al., "A Mean Field Theory of Batch Normalization",
# 2019); here by 1.06.
_OFFSET = 1.0

Function = Literal["relu", "relu6", "hard-swish", "hard-sigmoid"]


class Value(NamedTuple):
    """Hold a tensor of the graph: its name, and its values for the images, (images, C, H, W)."""

    name: str
    values: torch.Tensor

    @property
    def channels(self) -> int:
        """Return the size of axis 1."""
        return self.values.shape[1]


class NetBuilder:
    """Collect the nodes of one net.

    Args:
        images: float32 (images, C, H, W); decide the statistics of batch normalisation.
        seed: Of the weights.
    """

    def __init__(self, images: NDArray[np.float32], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.image = Value(INPUT, torch.from_numpy(images))

    def convolution(
        self,
        x: Value,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        function: Function | None = None,
        gain: float = 1.0,
    ) -> Value:
        """Add a convolution with its normalisation folded in, then an activation.

        Args:
            x: What it reads.
            channels: Of its result.
            kernel: Height and width; the padding keeps the size when the stride is 1.
            stride: In both directions.
            groups: Of channels; as many as channels make it depthwise.
            function: Activation behind it.
            gain: Standard deviation of the result; the last layer of a branch that is added to
                another value takes less than 1, so that sums don't grow with depth.
        """
        shape = (channels, x.channels // groups, kernel, kernel)
        fan_in = shape[1] * kernel * kernel
        weight = self._normal(shape, np.sqrt(2 / fan_in))
        raw = F.conv2d(x.values, torch.from_numpy(weight), None, stride, kernel // 2, 1, groups)
        mean = raw.mean(dim=(0, 2, 3))
        scale = gain / torch.sqrt(raw.var(dim=(0, 2, 3), unbiased=False) + _EPSILON)
        offset = self._normal((channels,), 0.1) + (0 if function is None else _OFFSET)
        bias = torch.from_numpy(offset.astype(np.float32)) - mean * scale
        constants = {"weight": weight * scale.numpy().reshape(-1, 1, 1, 1), "bias": bias.numpy()}
        values = raw * scale.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)
        convolved = self._add(
            "Conv",
            [x],
            values,
            constants,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )
        return convolved if function is None else self.activation(convolved, function)

    def plain_convolution(self, x: Value, channels: int) -> Value:
        """Add a 1x1 convolution without normalisation, as squeeze-and-excitation has it."""
        weight = self._normal((channels, x.channels, 1, 1), np.sqrt(2 / x.channels))
        bias = self._normal((channels,), 0.1)
        values = F.conv2d(x.values, torch.from_numpy(weight), torch.from_numpy(bias))
        return self._add("Conv", [x], values, {"weight": weight, "bias": bias}, kernel_shape=[1, 1])

    def activation(self, x: Value, function: Function) -> Value:
        """Add an activation the way torch exports it."""
        if function == "relu6":
            limits = {"low": np.float32(0), "high": np.float32(6)}
            return self._add("Clip", [x], F.relu6(x.values), limits)
        if function == "hard-swish":
            return self._add("HardSwish", [x], F.hardswish(x.values))
        if function == "hard-sigmoid":
            return self._add("HardSigmoid", [x], F.hardsigmoid(x.values), alpha=1 / 6, beta=0.5)
        return self._add("Relu", [x], F.relu(x.values))

    def add(self, x: Value, y: Value) -> Value:
        """Add two values."""
        return self._add("Add", [x, y], x.values + y.values)

    def multiply(self, x: Value, y: Value) -> Value:
        """Multiply two values, the second of size 1 in height and width."""
        return self._add("Mul", [x, y], x.values * y.values)

    def max_pool(self, x: Value, kernel: int, stride: int) -> Value:
        """Add a max pooling with padding `kernel // 2`."""
        values = F.max_pool2d(x.values, kernel, stride, kernel // 2)
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self._add("MaxPool", [x], values, {}, **sizes)

    def mean(self, x: Value) -> Value:
        """Add the mean over height and width."""
        return self._add("GlobalAveragePool", [x], x.values.mean(dim=(2, 3), keepdim=True))

    def finish(self, x: Value, num_classes: int) -> onnx.ModelProto:
        """Add a classifier on (images, C, 1, 1) and return the model, for one image.

        Its logits have mean 0 and deviation 1 over the images: a random classifier would give
        every image the same class, because pooled features hardly differ.
        """
        flat = self._add("Flatten", [x], x.values.flatten(1), {}, axis=1)
        weight = torch.from_numpy(self._normal((num_classes, flat.channels), 1.0))
        raw = flat.values @ weight.T
        scale = 1 / raw.std(dim=0).mean()
        bias = -raw.mean(dim=0) * scale
        constants = {"weight": (weight * scale).numpy(), "bias": bias.numpy()}
        logits = self._add("Gemm", [flat], raw * scale + bias, constants, transB=1)
        self._nodes[-1].output[0] = OUTPUT
        shape = [1, *self.image.values.shape[1:]]
        graph = helper.make_graph(
            self._nodes,
            "net",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, logits.channels])],
            self._constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model

    def _normal(self, shape: tuple[int, ...], deviation: float) -> NDArray[np.float32]:
        return (self._rng.standard_normal(shape) * deviation).astype(np.float32)

    def _add(
        self,
        operator: str,
        reads: list[Value],
        values: torch.Tensor,
        constants: dict[str, NDArray[np.float32] | np.float32] | None = None,
        **attributes: float | int | list[int],
    ) -> Value:
        name = f"{operator.lower()}_{len(self._nodes)}"
        names = [value.name for value in reads]
        for word, array in (constants or {}).items():
            names.append(f"{name}.{word}")
            self._constants.append(numpy_helper.from_array(np.asarray(array, "f"), names[-1]))
        output = f"{name}.out"
        self._nodes.append(helper.make_node(operator, names, [output], name=name, **attributes))
        return Value(output, values)
