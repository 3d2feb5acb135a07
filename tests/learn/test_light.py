from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
from edgekit.core.registry import registry
for kind in ("sources", "stages", "methods", "losses", "teachers", "architectures"):
    for name in registry(kind).names():
        registry(kind).get(name)
heavy = {"numpy", "torch", "onnx", "onnxruntime", "safetensors", "sklearn", "transformers", "tvm"}
print(sorted(heavy & set(sys.modules)))
"""


def test_entries_load_without_any_framework() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
