"""Provenance: which source code and which packages a stage's result depends on.

A cached result may be reused only while the code that made it is the same. The import statements
of a stage are followed through edgekit's own modules; what they reach is hashed, and the foreign
packages they name enter with their versions. Nothing is imported for that.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgekit.core.canonical import sha256_bytes, sha256_json

_PACKAGE = Path(__file__).resolve().parent.parent
# Import name to distribution, for what the rooms use.
_DISTRIBUTIONS = {
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "onnxslim": "onnxslim",
    "neural_compressor": "neural-compressor",
    "optimum": "optimum-onnx",
    "PIL": "pillow",
    "datasets": "datasets",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torch_pruning": "torch-pruning",
    "torchao": "torchao",
    "transformers": "transformers",
    "tvm": "apache-tvm",
    "ziglang": "ziglang",
}


# The rest of core holds words, not behaviour that a result depends on.
_CORE = frozenset({"edgekit.core.target"})


class Provenance(msgspec.Struct, frozen=True):
    """Hold the digest of the source reached and the versions of the packages it names."""

    source: str
    tools: dict[str, str]


def provenance(modules: Iterable[str]) -> Provenance:
    """Return the provenance of a result made by `modules` (a stage and the entries it uses)."""
    names = frozenset(modules)
    reached = _closure(names)
    own = {name: digest for name, (digest, _) in reached.items() if digest}
    foreign = {root for _, (_, imports) in reached.items() for root in imports}
    tools = {}
    for root in sorted(foreign & set(_DISTRIBUTIONS)):
        version = installed_version(_DISTRIBUTIONS[root])
        if version is not None:
            tools[_DISTRIBUTIONS[root]] = version
    plugins = {name.partition(".")[0] for name in names} - {"edgekit"}
    for distribution in sorted(_distributions_of(plugins)):
        tools[distribution] = installed_version(distribution) or "unknown"
    return Provenance(sha256_json(own), tools)


def _distributions_of(roots: set[str]) -> set[str]:
    if not roots:
        return set()
    known = importlib.metadata.packages_distributions()
    return {distribution for root in roots for distribution in known.get(root, [root])}


@functools.cache
def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _closure(names: frozenset[str]) -> dict[str, tuple[str, frozenset[str]]]:
    reached: dict[str, tuple[str, frozenset[str]]] = {}
    todo = [name for name in names if name.startswith("edgekit.")]
    while todo:
        name = todo.pop()
        if name in reached or (name.startswith("edgekit.core") and name not in _CORE):
            continue
        digest, own, foreign = _module(name)
        reached[name] = (digest, foreign)
        todo.extend(own)
    return reached


@functools.cache
def _module(name: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
    path = _module_path(name)
    if path is None:
        return "", (), frozenset()
    content = path.read_bytes()
    own: set[str] = set()
    tree = ast.parse(content)
    foreign = set(_named_packages(tree))
    for imported in _imports(tree):
        if imported.startswith("edgekit."):
            if _module_path(imported) is not None:
                own.add(imported)
        else:
            foreign.add(imported.partition(".")[0])
    digest = sha256_bytes(content)
    natives = path.parent / "native"
    if natives.is_dir():
        files = sorted(path for path in natives.rglob("*") if path.suffix in {".c", ".h", ".S"})
        digest = sha256_json([digest, *(sha256_bytes(file.read_bytes()) for file in files)])
    return digest, tuple(sorted(own)), frozenset(foreign)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _named_packages(tree: ast.AST) -> Iterator[str]:
    # `require_module("neural_compressor.torch")` and `-m ziglang` import by name.
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            root = node.value.partition(".")[0]
            if root in _DISTRIBUTIONS:
                yield root


@functools.cache
def _module_path(name: str) -> Path | None:
    parts = name.split(".")[1:]
    base = _PACKAGE.joinpath(*parts)
    if base.with_suffix(".py").is_file():
        return base.with_suffix(".py")
    return base / "__init__.py" if (base / "__init__.py").is_file() else None
