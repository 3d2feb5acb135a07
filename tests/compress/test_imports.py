from __future__ import annotations

import subprocess
import sys

import pytest

from edgekit.core.registry import registry

HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "torch_pruning", "torchao", "neural_compressor")


@pytest.mark.parametrize("kind", ["importance", "observers", "backends"])
def test_listing_and_making_every_entry_loads_no_framework(kind: str) -> None:
    script = (
        "import sys\n"
        "from edgekit.core.registry import registry\n"
        "from edgekit.core.schema import to_plain, Where, resolve_struct\n"
        f"entries = registry('{kind}')\n"
        "for name in entries.names():\n"
        "    assert entries.help(name)\n"
        "    to_plain(resolve_struct({}, entries.get(name), Where('recipe')))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_entries_are_those_recipes_are_promised() -> None:
    assert {"l2", "taylor"} <= set(registry("importance").names())
    assert {"min-max", "percentile", "kl-calib", "mse"} <= set(registry("observers").names())
    assert "onnxruntime" in registry("backends").names()
