from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.regions.gaps import expand_functions
from edgekit.compiler.regions.importer import import_onnx
from edgekit.core.errors import InputError
from tests.compiler.onnx_models import GraphBuilder

SHAPE = [1, 2, 4, 4]


def one_node(kind: str, *, results: int = 1, **attributes: object) -> onnx.ModelProto:
    b = GraphBuilder()
    reads = ["x"]
    if kind in ("BatchNormalization", "ConvTranspose"):
        reads += [b.weight(2, 2, 2, 2)] if kind == "ConvTranspose" else [b.weight(2)] * 4
    if kind == "Resize":
        reads += ["", b.constant(np.array([1, 1, 0.5, 0.5], np.float32))]
    if kind == "LayerNormalization":
        reads += [b.weight(4)]
    names = [f"y{index}" for index in range(results)]
    b.nodes.append(helper.make_node(kind, reads, names, name="odd", **attributes))
    graph = helper.make_graph(
        b.nodes,
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)],
        [helper.make_empty_tensor_value_info(name) for name in names],
        b.initializers,
    )
    opset = [helper.make_opsetid("", 18)]
    return specialise(helper.make_model(graph, opset_imports=opset, ir_version=9))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (one_node("Det"), "an operator its importer does not know"),
        (one_node("Resize", mode="cubic", antialias=1), "antialias"),
        (
            one_node(
                "Resize", mode="linear", coordinate_transformation_mode="half_pixel_symmetric"
            ),
            "half_pixel_symmetric",
        ),
        (one_node("IsInf", detect_negative=0), "one sign only"),
        (one_node("Dropout", results=2), "a mask"),
        (one_node("BatchNormalization", results=3, training_mode=1), "training mode"),
        (one_node("ConvTranspose", output_shape=[9, 9]), "output_shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.graph.node[0].op_type,
)
def test_what_tvm_would_get_wrong_is_refused_by_name(model: onnx.ModelProto, match: str) -> None:
    with pytest.raises(InputError, match=rf"operator 'odd' \(.*\) into TVM: found .*{match}"):
        import_onnx(model)


@pytest.mark.parametrize("model", [one_node("Celu"), one_node("LayerNormalization", results=3)])
def test_functions_are_spelled_out_in_operators_tvm_knows(model: onnx.ModelProto) -> None:
    module = import_onnx(model)
    assert "main" in [str(name.name_hint) for name in module.functions]


def test_what_tvm_knows_stays_as_it_is() -> None:
    model = one_node("LayerNormalization")
    assert expand_functions(model, {"LayerNormalization"}) is model
