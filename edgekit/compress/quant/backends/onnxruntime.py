"""Static QDQ quantization through onnxruntime.quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.compress.quant.backend import Quantized
    from edgekit.compress.quant.calibration import Calibration


class Onnxruntime(Options, frozen=True, kw_only=True):
    """Let onnxruntime write the int8 graph: uint8 activations, int8 weights within +-127.

    Ranges come from edgekit's own observers. Weights are symmetric, so that a product of weight
    and activation needs no correction for the weight's zero point.
    """

    weights: Annotated[
        Literal["per-channel", "per-tensor"],
        Meta(description="One scale per output channel of a weight, or one for all"),
    ] = "per-channel"
    operators: Annotated[
        Literal["all", "weighted"],
        Meta(
            description="What becomes integer: all that has an integer form (convolutional nets), "
            "or only products with constant weights (transformers)"
        ),
    ] = "all"

    def quantize(
        self, source: Path, scratch: Path, calibration: Calibration, *, ignored: Sequence[str]
    ) -> Quantized:
        """Return the quantized graph; see `edgekit.compress.quant.backend.Backend`."""
        from edgekit.compress.quant.prepare import prepare
        from edgekit.compress.quant.static import quantize_static

        return quantize_static(
            prepare(source, scratch),
            calibration,
            operators=self.operators,
            per_channel=self.weights == "per-channel",
            ignored=ignored,
        )
