"""Run a model by onnxruntime, as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgekit.core.options import Options

if TYPE_CHECKING:
    import onnx

    from edgekit.compiler.accounting import OperatorCount
    from edgekit.compiler.engine_build import EngineBuild
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target


class Onnxruntime(Options, frozen=True):
    """Run the ONNX model by onnxruntime on the device, optimised when it is loaded there."""

    packages: ClassVar[tuple[tuple[str, str], ...]] = (("onnxruntime", "onnx"),)

    def build(
        self, onnx_path: Path, out: Path, target: Target, *, progress: Progress
    ) -> EngineBuild:
        """Check the model, copy it with its batch left as it is, and see what onnxruntime runs.

        Args:
            onnx_path: The model.
            out: Empty folder; receives `model.onnx` and `engine.json`.
            target: Taken for the record only: onnxruntime adapts when it loads.
            progress: Shown two steps.

        Returns:
            What was built. The operator counts come from onnxruntime on this machine; its
            kernels on the target's instruction set may be others.

        Raises:
            InputError: The model is refused, or onnxruntime is missing.
        """
        import platform

        from edgekit.compiler.engine_build import EngineBuild, write_engine_build
        from edgekit.compiler.onnx_file import (
            has_qdq,
            input_specs,
            load_onnx,
            output_specs,
            save_onnx,
            specialise,
        )
        from edgekit.core.errors import require_module
        from edgekit.core.model import TensorSpec

        ort = require_module("onnxruntime", "onnx")
        with progress.start("onnxruntime", 2, "steps") as task:
            model = load_onnx(onnx_path)
            single = specialise(model)
            task.advance()
            count = _count_what_runs(model)
            out.mkdir(parents=True, exist_ok=True)
            save_onnx(model, out / "model.onnx")
            task.advance()
        build = EngineBuild(
            engine="onnxruntime",
            files=("model.onnx",),
            library="model.onnx",
            inputs=tuple(
                TensorSpec(spec.name, spec.dtype, spec.batched(1)) for spec in input_specs(single)
            ),
            outputs=tuple(
                TensorSpec(spec.name, spec.dtype, spec.batched(1)) for spec in output_specs(single)
            ),
            integer_ops=count.integer_ops,
            float_ops=count.float_ops,
            weights_bytes=_constant_bytes(model),
            disqualified=count.disqualification() if has_qdq(model) else None,
            details={
                "onnxruntime": ort.__version__,
                "operators_inspected_on": platform.machine(),
                "target_isa": target.cpu.isa,
                "float_as_quantized": list(count.float_as_quantized),
            },
        )
        write_engine_build(build, out)
        return build


def _count_what_runs(model: onnx.ModelProto) -> OperatorCount:
    """Count the operators of the graph onnxruntime makes of the model on this machine."""
    import tempfile

    import onnx

    from edgekit.compiler.accounting import count_operators, onnx_operators
    from edgekit.compiler.session import open_session

    with tempfile.TemporaryDirectory(prefix="edgekit-ort-") as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(model, save_optimized=path)
        return count_operators(*onnx_operators(onnx.load(path)))


def _constant_bytes(model: onnx.ModelProto) -> int:
    from edgekit.compiler.onnx_tensors import tensor_bytes

    return sum(tensor_bytes(tensor) for tensor in model.graph.initializer)
