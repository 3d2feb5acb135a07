"""The node tests that the `onnx` package ships, as far as a compiler of fixed shapes is asked.

A test counts when all its tensors are numbers, its graph is valid at opset 18 and its shapes are
known before it runs. Two things are done to a test, for every engine alike:

- Most tests declare the newest opset, although their operator changed only in the types it takes.
  One that declares more than 18 is declared anew as 18, and stays when ONNX's checker accepts it
  and ONNX's own evaluator still gives the expected results.
- ONNX feeds shapes, axes and the like as inputs. Where the result's shape hangs on them, they
  become constants, as every exporter writes them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.compiler.session import open_session
from edgekit.core.errors import InputError

OPSET = 18
DTYPES = frozenset(
    {
        *("float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Hold one test.

    Attributes:
        name: ONNX's name of it.
        operators: Types of its nodes.
        model: Serialised.
        inputs: What is fed, by name.
        outputs: What must come out.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
    """

    name: str
    operators: tuple[str, ...]
    model: bytes
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    rtol: float
    atol: float


def load_cases() -> tuple[list[Case], dict[str, int]]:
    """Load all tests that count.

    Returns:
        The tests, sorted by name, and how many were left out for which reason.
    """
    from onnx.backend.test.loader import load_model_tests

    left_out: Counter[str] = Counter()
    cases = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests themselves divide by zero on purpose
        for test in load_model_tests(kind="node"):
            found = _case(test)
            if isinstance(found, Case):
                cases.append(found)
            else:
                left_out[found] += 1
    return sorted(cases, key=lambda case: case.name), dict(sorted(left_out.items()))


def _case(test: onnx.backend.test.case.TestCase) -> Case | str:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    if {item.domain for item in model.opset_import} - {"", "ai.onnx"}:
        return "operators outside of ONNX's own domain"
    ((fed, expected),) = test.data_sets
    arrays = [_array(item) for item in (*fed, *expected)]
    if any(item is None for item in arrays):
        return "sequences, maps, strings, complex numbers or types below 8 bits"
    names = [item.name for item in (*model.graph.input, *model.graph.output)]
    values = {name: item for name, item in zip(names, arrays, strict=True) if item is not None}
    inputs = {item.name: values[item.name] for item in model.graph.input}
    outputs = {item.name: values[item.name] for item in model.graph.output}
    if not _redeclare(model, inputs, outputs):
        return f"not valid at opset {OPSET}"
    if not _freeze(model, inputs, [value.shape for value in outputs.values()]):
        return "shapes known at run time only"
    if any(0 in item.shape for item in (*inputs.values(), *outputs.values())):
        return "tensors without a value"
    return Case(
        name=test.name,
        operators=tuple(node.op_type for node in model.graph.node),
        model=model.SerializeToString(),
        inputs=inputs,
        outputs=outputs,
        rtol=test.rtol,
        atol=test.atol,
    )


def _array(value: object) -> np.ndarray | None:
    if isinstance(value, onnx.TensorProto):
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.data_type)
        value = numpy_helper.to_array(value) if str(kind) in DTYPES else None
    if not isinstance(value, np.ndarray | np.generic) or str(value.dtype) not in DTYPES:
        return None
    return np.asarray(value)


def _redeclare(
    model: onnx.ModelProto, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]
) -> bool:
    (opset,) = model.opset_import
    if opset.version <= OPSET:
        return True
    opset.version = OPSET
    try:
        onnx.checker.check_model(model, full_check=True)
        results = onnx.reference.ReferenceEvaluator(model).run(None, inputs)
    # The evaluator raises whatever numpy or an operator's own code does.
    except Exception:
        return False
    pairs = zip(results, outputs.values(), strict=True)
    return all(
        np.shape(found) == wanted.shape
        and np.allclose(found, wanted, rtol=1e-3, atol=1e-6, equal_nan=True)
        for found, wanted in pairs
    )


def _freeze(
    model: onnx.ModelProto, inputs: dict[str, np.ndarray], shapes: list[tuple[int, ...]]
) -> bool:
    """Make parameters constant where shapes need it; return whether all shapes are known then."""
    _make_constant(model, inputs, [name for name, value in inputs.items() if value.shape == (0,)])
    if _is_settled(model, shapes):
        return True
    first = {node.input[0] for node in model.graph.node if node.input}
    parameters = [name for name, value in inputs.items() if value.ndim <= 1 and name not in first]
    _make_constant(model, inputs, parameters)
    return _is_settled(model, shapes)


def _make_constant(model: onnx.ModelProto, inputs: dict[str, np.ndarray], names: list[str]) -> None:
    for name in names:
        model.graph.initializer.append(numpy_helper.from_array(inputs.pop(name), name))
    kept = [info for info in model.graph.input if info.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _is_settled(model: onnx.ModelProto, shapes: list[tuple[int, ...]]) -> bool:
    """Return whether shapes of results follow from those of the inputs and from constants."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for info in bare.graph.output:
        info.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    kinds = [info.type.tensor_type for info in inferred.graph.output]
    if all(
        kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)
        for kind in kinds
    ):
        return True
    try:
        session = open_session(bare, optimization="basic")
    except InputError:
        return False
    # An unknown number of dimensions reads like a single number's: none.
    return [tuple(item.shape) for item in session.get_outputs()] == shapes
