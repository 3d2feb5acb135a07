"""Quantize a float model in one of the many ways exporters do, chosen by a seed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.compiler.locate import intermediates
from tests.compiler.onnx_models import GraphBuilder

_PRODUCTS = ("Conv", "Gemm", "MatMul")
#: Operators that leave numbers as they are; not every exporter gives them a grid of their own.
_MOVES = ("MaxPool", "Resize", "Flatten", "Pad", "Transpose", "Reshape")


class _Quantizer:
    """Write a quantized copy, node by node."""

    def __init__(self, model: onnx.ModelProto, inner: set[str], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = model
        self.inner = inner
        self.dtype = np.dtype(("uint8", "int8")[int(self.rng.integers(0, 2))])
        self.is_per_channel, self.shares_grids, self.keeps_float_bias = (
            bool(self.rng.integers(0, 2)) for _ in range(3)
        )
        self.constants = {
            item.name: numpy_helper.to_array(item) for item in model.graph.initializer
        }
        inputs = {
            item.name: self.rng.standard_normal(
                [dim.dim_value for dim in item.type.tensor_type.shape.dim]
            ).astype(np.float32)
            for item in model.graph.input
        }
        self.values = inputs | intermediates(model, inputs)
        self.b = GraphBuilder()
        self.b.initializers.extend(model.graph.initializer)
        self.grids: dict[str, tuple[np.float32, int]] = {}
        self.moved: dict[str, str] = {}

    def run(self) -> onnx.ModelProto:
        for item in self.model.graph.input:
            self.moved[item.name] = self._through(item.name, item.name, None)
        for node in self.model.graph.node:
            self._copy(node)
        output = self.model.graph.output[0]
        infos = {
            item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
            for item in (*self.model.graph.input, output)
        }
        used = {name for node in self.b.nodes for name in node.input}
        self.b.initializers = [item for item in self.b.initializers if item.name in used]
        shape = infos.pop(output.name)
        return self.b.model(infos, {self.moved[output.name]: shape})

    def _copy(self, node: onnx.NodeProto) -> None:
        reads = [self.moved.get(name, name) for name in node.input]
        if node.op_type in _PRODUCTS:
            reads = self._product_operands(node, reads)
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        result = self.b.op(node.op_type, *reads, **attributes)
        name = node.output[0]
        if name in self.inner:
            self.grids[name] = self.grids.get(node.input[0], self._calibrated(name))
            self.moved[name] = result
            return
        source = node.input[0] if node.op_type in _MOVES and self.shares_grids else None
        self.moved[name] = self._through(name, result, source)

    def _through(self, name: str, result: str, source: str | None) -> str:
        """Quantize and dequantize a result, on the grid of `source` when there is one."""
        scale, zero_point = self.grids[source] if source else self._calibrated(name)
        self.grids[name] = scale, zero_point
        parameters = (
            self.b.constant(scale),
            self.b.constant(np.array(zero_point, self.dtype)),
        )
        levels = self.b.op("QuantizeLinear", result, *parameters)
        return self.b.op("DequantizeLinear", levels, *parameters)

    def _calibrated(self, name: str) -> tuple[np.float32, int]:
        """Cover the values seen, now and then less, so that some saturate."""
        share = 0.8 if self.rng.random() < 0.1 else 1.0
        low = min(0.0, float(self.values[name].min()) * share)
        high = max(0.0, float(self.values[name].max()) * share)
        scale = np.float32(max(high - low, 0.5) / 255)
        lowest = np.iinfo(self.dtype).min
        return scale, int(np.clip(round(-low / scale), 0, 255)) + lowest

    def _product_operands(self, node: onnx.NodeProto, reads: list[str]) -> list[str]:
        weights = self.constants[node.input[1]]
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        axis = 1 if node.op_type == "MatMul" or attributes.get("transB") == 0 else 0
        others = tuple(i for i in range(weights.ndim) if i != axis)
        reach = np.abs(weights).max(axis=others if self.is_per_channel else None)
        scale = (np.maximum(reach, 1e-3) / 127).astype(np.float32)
        shape = [1] * weights.ndim
        if self.is_per_channel:
            shape[axis] = -1
        levels = np.round(weights / scale.reshape(shape)).astype(np.int8)
        reads[1] = self._stored(levels, scale, axis)
        if len(reads) > 2 and not self.keeps_float_bias:
            bias_scale = np.float32(self.grids[node.input[0]][0]) * scale
            bias = np.round(self.constants[node.input[2]] / bias_scale).astype(np.int32)
            reads[2] = self._stored(bias, bias_scale, 0)
        return reads

    def _stored(self, levels: np.ndarray, scale: np.ndarray, axis: int) -> str:
        zero_point = np.zeros(scale.shape, levels.dtype)
        parameters = [self.b.constant(value) for value in (levels, scale, zero_point)]
        attributes = {"axis": axis} if scale.ndim else {}
        return self.b.op("DequantizeLinear", *parameters, **attributes)


def quantized_randomly(model: onnx.ModelProto, inner: set[str], seed: int) -> onnx.ModelProto:
    """Quantize a float model of fixed shapes.

    Args:
        model: From `random_model`.
        inner: Results that are part of a pattern and stay as they are.
        seed: Chooses uint8 or int8 levels, scales per tensor or per channel, whether operators that
            only move numbers share a grid, and whether biases stay float.

    Returns:
        The model in QDQ form.
    """
    return _Quantizer(model, inner, seed).run()
