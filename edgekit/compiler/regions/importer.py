"""Turn a checked ONNX model into Relax, TVM's graph language.

TVM's importer is used as it is, with two additions: every operator is announced before it is
converted, so that a refusal or a crash has a name, and a model it refuses is tried once more with
its constants folded by onnxruntime: exporters compute pads and shapes by small graphs of
constants, which the importer takes for run-time values.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.compiler.regions.gaps import check_operators, expand_functions
from edgekit.compiler.session import open_session
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import onnx
    import tvm


def import_onnx(
    model: onnx.ModelProto, *, on_operator: Callable[[str], None] = lambda _: None
) -> tvm.IRModule:
    """Import a model.

    Args:
        model: Checked, with fixed shapes.
        on_operator: Told "operator 'NAME' (TYPE)" before each conversion.

    Returns:
        One function, `main`, over static shapes.

    Raises:
        InputError: TVM cannot import an operator; it is named.
    """
    from tvm.relax.frontend.onnx import onnx_frontend

    model = expand_functions(model, onnx_frontend._get_convert_map())
    try:
        return _import(model, on_operator)
    except InputError:
        try:
            return _import(_fold(model), on_operator)
        except InputError:
            pass  # the first message names the operator as the user wrote it
        raise


def _import(model: onnx.ModelProto, on_operator: Callable[[str], None]) -> tvm.IRModule:
    from tvm.relax.frontend.onnx import onnx_frontend

    current = {"name": "", "type": ""}

    class Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
        def _convert_operator(
            self,
            op_name: str,
            inputs: list[tvm.relax.Expr],
            attrs: dict[str, Any],
            opset: int,
        ) -> tvm.relax.Expr:
            current.update(name=attrs["tvm_custom"]["name"], type=op_name)
            on_operator(f"operator '{current['name']}' ({op_name})")
            return super()._convert_operator(op_name, inputs, attrs, opset)

    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    check_operators(model, onnx_frontend._get_convert_map())
    importer = Importer(None, "float32", keep_params_in_input=False, sanitize=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # renamed inputs, which no one sees
            return importer.from_onnx(model.graph, opset)
    # TVM raises its own errors, ValueError, KeyError, AssertionError and more on what it lacks.
    except Exception as error:
        reasons = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(
            f"importing operator '{current['name']}' ({current['type']}) into TVM",
            found=reasons[-1][:300] if reasons else type(error).__name__,
            hint="The tvm engine cannot run this operator; engine onnxruntime may",
        ) from error
    finally:
        on_operator("")


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgekit-fold-") as folder:
        path = Path(folder) / "folded.onnx"
        open_session(model, optimization="basic", save_optimized=path)
        return onnx.load(path)
