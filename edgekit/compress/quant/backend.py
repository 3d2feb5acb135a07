"""What a backend is given and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgekit.compress.quant.calibration import Calibration

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Hold an int8 graph.

    Attributes:
        model: QDQ graph.
        kept_float: Nodes that stay float although their operator has an integer form, by what the
            backend found out, not by the user's wish.
    """

    model: onnx.ModelProto
    kept_float: tuple[str, ...] = ()


class Backend(Protocol):
    """Quantize a float ONNX file; implementers are options structs in `backends/`."""

    def quantize(
        self, source: Path, scratch: Path, calibration: Calibration, *, ignored: Sequence[str]
    ) -> Quantized:
        """Return the quantized graph.

        Args:
            source: Float ONNX file.
            scratch: Folder for temporary files.
            calibration: Data and observer.
            ignored: Node names, patterns or operator types that stay float.

        Raises:
            InputError: A pattern matches nothing, or nothing is left to quantize.
        """
        ...
