"""All nets by name, made when they are first asked for and kept in a folder.

python -m bench.nets.catalog FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.nets.fashion import resnet8
from bench.nets.images import draw_images
from bench.nets.inverted_residuals import efficientnet_lite, mobilenet_v2, mobilenet_v3
from bench.nets.mobilenet_v1 import mobilenet_v1
from bench.nets.resnet import resnet18, resnet50

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from bench.nets.builder import NetBuilder

Precision = Literal["fp32", "int8"]

_IMAGENET: dict[str, Callable[[NetBuilder], onnx.ModelProto]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenetv1": mobilenet_v1,
    "mobilenetv2": mobilenet_v2,
    "mobilenetv3": mobilenet_v3,
    "efficientnet-lite": efficientnet_lite,
}
NETS = (*_IMAGENET, "resnet8")
"""Names of the nets."""
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_SEED = 4
_STATISTICS_IMAGES = 8
_CALIBRATION_IMAGES = 8


def net_path(folder: Path, name: str, precision: Precision) -> Path:
    """Return the file of a net, made when it is missing.

    Args:
        folder: Where nets are kept.
        name: One of `NETS`.
        precision: fp32, or QDQ int8: activations uint8, weights int8 per channel within +-127.
    """
    path = folder / f"{name}{'' if precision == 'fp32' else '_int8'}.onnx"
    if not path.exists():
        from edgekit.compiler.onnx_file import save_onnx

        folder.mkdir(parents=True, exist_ok=True)
        made = _float_net(name) if precision == "fp32" else _int8_net(folder, name)
        partial = path.with_suffix(".part")
        save_onnx(made, partial)
        partial.replace(path)
    return path


def net_images(name: str, num_images: int, seed: int) -> NDArray[np.float32]:
    """Return images a net takes, float32 (images, channels, height, width)."""
    channels, size = (1, 28) if name == "resnet8" else (3, 224)
    return draw_images(num_images, channels=channels, size=size, seed=seed)


def _float_net(name: str) -> onnx.ModelProto:
    import torch

    from bench.nets.builder import NetBuilder

    images = net_images(name, _STATISTICS_IMAGES, _SEED)
    if name == "resnet8":
        return resnet8(images, _SEED)
    with torch.no_grad():
        return _IMAGENET[name](NetBuilder(images, _SEED))


def _int8_net(folder: Path, name: str) -> onnx.ModelProto:
    from edgekit.compress.quant.backends.onnxruntime import Onnxruntime
    from edgekit.compress.quant.calibration import Calibration
    from edgekit.compress.quant.observers.min_max import MinMax

    images = net_images(name, _CALIBRATION_IMAGES, _SEED + 1)
    calibration = Calibration(
        batches=lambda: ({"image": image[None]} for image in images), observer=MinMax()
    )
    source = net_path(folder, name, "fp32")
    with tempfile.TemporaryDirectory() as scratch:
        return Onnxruntime().quantize(source, Path(scratch), calibration, ignored=()).model


def main(arguments: list[str]) -> None:
    """Make all nets in a folder."""
    for name in NETS:
        for precision in PRECISIONS:
            print(net_path(Path(arguments[0]), name, precision), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
