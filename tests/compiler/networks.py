"""Networks put together by hand: every operator on levels, with random constants."""

from __future__ import annotations

import numpy as np

from edgekit.compiler.graph.operators import (
    AddLevels,
    Concat,
    Convolution,
    Dense,
    Dequantize,
    Elementwise,
    GlobalAverage,
    Lookup,
    Network,
    Operator,
    Pool,
    Quantize,
    Rescale,
    Reshape,
    Resize,
    ToFloat,
    ToLevels,
)
from edgekit.compiler.graph.tensors import Grid, Tensor

LOWEST = {"uint8": 0, "int8": -128}


class NetworkBuilder:
    """Append operators on levels; each method returns the name of the tensor it makes."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str, grid: Grid | None) -> str:
        self.tensors[name] = Tensor(name=name, shape=shape, dtype=dtype, grid=grid)
        return name

    def levels(self, name: str, shape: tuple[int, ...]) -> str:
        scale = float(np.float32(self.rng.uniform(0.01, 0.2)))
        return self.tensor(name, shape, self.dtype, Grid(scale, self.zero_point()))

    def zero_point(self) -> int:
        return LOWEST[self.dtype] + int(self.rng.integers(0, 256))

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def bias(self, outputs: int) -> np.ndarray:
        return self.rng.integers(-3000, 3000, outputs).astype(np.int32)

    def result(self, count: int, size: float) -> ToLevels:
        """Requantize sums of about `size` products so that levels spread over the whole range."""
        low = LOWEST[self.dtype] + int(self.rng.integers(0, 3))
        multipliers = self.rng.uniform(0.5, 2, count) / size
        return ToLevels(
            multipliers=multipliers.astype(np.float32),
            zero_point=self.zero_point(),
            low=low,
            high=LOWEST[self.dtype] + 255 - int(self.rng.integers(0, 3)),
        )

    def add(self) -> AddLevels:
        first, second = (float(np.float32(self.rng.uniform(0.2, 1))) for _ in range(2))
        return AddLevels(
            first_multiplier=first,
            first_zero_point=self.zero_point(),
            second_multiplier=second,
            second_zero_point=self.zero_point(),
            zero_point=self.zero_point(),
            low=LOWEST[self.dtype],
            high=LOWEST[self.dtype] + 255,
        )

    def append(self, operator: Operator) -> str:
        self.operators.append(operator)
        return operator.writes[0]

    def network(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Network:
        return Network(
            tensors=self.tensors, operators=tuple(self.operators), inputs=inputs, outputs=outputs
        )


def on_levels(seed: int, dtype: str) -> Network:
    """Two inputs (levels and floats), three outputs (levels, levels also read, floats)."""
    b = NetworkBuilder(seed, dtype)
    image = b.tensor("image", (1, 4, 8, 8), "float32", None)
    raw = b.levels("raw", (1, 4, 8, 8))

    def named(name: str, *reads: str) -> dict[str, object]:
        return {"name": name, "nodes": (name,), "reads": reads, "writes": (f"{name}_out",)}

    def made(name: str, *shape: int) -> None:
        b.levels(f"{name}_out", shape)

    made("quantize", 1, 4, 8, 8)
    x = b.append(Quantize(**named("quantize", image)))
    made("residual", 1, 4, 8, 8)
    x = b.append(
        Convolution(
            **named("residual", x, raw),
            weights=b.weights(4, 4, 3, 3),
            bias=b.bias(4),
            pads=(1, 1, 1, 1),
            input_zero_point=b.zero_point(),
            result=b.result(4, 6e2),
            add=b.add(),
        )
    )
    made("depthwise", 1, 4, 8, 8)
    x = b.append(
        Convolution(
            **named("depthwise", x),
            weights=b.weights(4, 1, 3, 3),
            bias=b.bias(4),
            pads=(1, 1, 1, 1),
            groups=4,
            input_zero_point=b.zero_point(),
            result=b.result(4, 3e2),
        )
    )
    made("max", 1, 4, 4, 4)
    y = b.append(Pool(**named("max", x), mode="max", window=(2, 2), strides=(2, 2)))
    made("average", 1, 4, 4, 4)
    x = b.append(
        Pool(
            **named("average", x),
            mode="average",
            window=(3, 3),
            strides=(2, 2),
            pads=(1, 1, 0, 0),
            input_zero_point=b.zero_point(),
            result=b.result(16, 4.0),
        )
    )
    made("table", 1, 4, 4, 4)
    table = LOWEST[dtype] + b.rng.integers(0, 256, 256)
    y = b.append(Lookup(**named("table", y), table=table.astype(dtype)))
    made("sum", 1, 4, 4, 4)
    x = b.append(Elementwise(**named("sum", x, y), function="add", add=b.add()))
    made("mean", 1, 4, 1, 1)
    gate = b.append(
        GlobalAverage(**named("mean", x), input_zero_point=b.zero_point(), result=b.result(1, 16.0))
    )
    made("gated", 1, 4, 4, 4)
    x = b.append(
        Elementwise(
            **named("gated", x, gate),
            function="mul",
            zero_points=(b.zero_point(), b.zero_point()),
            result=b.result(1, 80.0),
        )
    )
    made("rescaled", 1, 4, 4, 4)
    y = b.append(
        Rescale(**named("rescaled", x), input_zero_point=b.zero_point(), result=b.result(1, 1.0))
    )
    made("joined", 1, 8, 4, 4)
    x = b.append(Concat(**named("joined", x, y), axis=1))
    made("large", 1, 8, 8, 8)
    large = b.append(Resize(**named("large", x), mode="nearest", factors=(2, 2)))
    made("flat", 1, 128)
    x = b.append(Reshape(**named("flat", x)))
    made("dense", 1, 6)
    x = b.append(
        Dense(
            **named("dense", x),
            weights=b.weights(6, 128),
            bias=b.bias(6),
            input_zero_point=b.zero_point(),
            result=b.result(6, 8e2),
        )
    )
    b.tensor("scores_out", (1, 5), "float32", None)
    scores = b.append(
        Dense(
            **named("scores", x),
            weights=b.weights(5, 6),
            bias=b.bias(5),
            input_zero_point=b.zero_point(),
            result=ToFloat(multipliers=np.full(5, 0.01, np.float32)),
        )
    )
    b.tensor("real_out", (1, 6), "float32", None)
    real = b.append(Dequantize(**named("real", x)))
    return b.network((image, raw), (large, x, scores, real))


def example_inputs(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the whole range of every input's type."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for tensor in (network.tensors[name] for name in network.inputs):
        if tensor.dtype == "float32":
            inputs[tensor.name] = rng.standard_normal(tensor.shape).astype(np.float32)
        else:
            lowest = LOWEST[tensor.dtype]
            inputs[tensor.name] = (lowest + rng.integers(0, 256, tensor.shape)).astype(tensor.dtype)
    return inputs
