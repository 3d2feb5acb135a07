"""edgekit: from a trained model to a verified, measured, deployable bundle for an edge device.

`build` runs a recipe for targets, `load` opens a bundle for inference. Importing this package
loads no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.core.version import __version__

if TYPE_CHECKING:
    from edgekit.deployed import load
    from edgekit.pipeline.build import build

__all__ = ["__version__", "build", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attribute hook
    if name == "build":
        from edgekit.pipeline.build import build

        return build
    if name == "load":
        from edgekit.deployed import load

        return load
    raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
