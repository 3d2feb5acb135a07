"""YAML read as plain data by YAML 1.2's core schema, with the line of every value.

Why not `yaml.safe_load`: it reads YAML 1.1 (`1e-3` is text, `no` is false, `0o7` is text), lets a
duplicate key win silently, expands aliases without a limit, and forgets where a value stood.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from edgekit.core.errors import InputError

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
Key = tuple[str | int, ...]


class Document(NamedTuple):
    """Hold a parsed file: its value and the 1-based line of every key path."""

    value: Any
    lines: dict[Key, int]
    path: Path


def load_yaml(path: Path) -> Document:
    """Read one YAML document.

    Raises:
        InputError: The file is missing, too large, not YAML, has duplicate keys or odd tags.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"reading {path}", found=f"{size} bytes", expected="at most 1 MiB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"reading {path}", found=str(error)) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Document:
    """Parse YAML text; `path` is used in messages only."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"{path}{line}: not valid YAML", found=problem) from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply") from error
    reader = _Reader(path)
    value = reader.value(root, ()) if root is not None else None
    return Document(value, reader.lines, path)


class _Reader:
    """Build plain values from nodes, counting them so that aliases cannot explode."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        self.count = 0

    def value(self, node: yaml.Node, key: Key) -> Any:  # noqa: ANN401 - any YAML value
        self.count += 1
        line = node.start_mark.line + 1
        self.lines[key] = line
        if self.count > MAX_NODES or len(key) > 32:
            raise InputError(f"{self.path}:{line}: more than {MAX_NODES} values or 32 levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "tag:yaml.org,2002:seq", line)
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        self._check_tag(node, "tag:yaml.org,2002:map", node.start_mark.line + 1)
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                raise InputError(f"{self.path}:{line}: a key must be text")
            name = str(name_node.value)
            if name in found:
                first = self.lines[(*key, name)]
                raise InputError(
                    f"{self.path}:{line}: key '{name}' appears twice",
                    found=f"it first at line {first}",
                    hint="Remove one of the two",
                )
            found[name] = self.value(value_node, (*key, name))
            self.lines[(*key, name)] = line
        return found

    def _scalar(self, node: yaml.Node, line: int) -> Any:  # noqa: ANN401 - any YAML scalar
        text = str(node.value)
        plain = getattr(node, "style", None) is None
        if node.tag == "tag:yaml.org,2002:str" and not plain:
            return text
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise InputError(f"{self.path}:{line}: tag '{node.tag}' is not allowed")
        return _plain_scalar(text)

    def _check_tag(self, node: yaml.Node, expected: str, line: int) -> None:
        if node.tag != expected:
            raise InputError(f"{self.path}:{line}: tag '{node.tag}' is not allowed")


def _plain_scalar(text: str) -> Any:  # noqa: ANN401 - any YAML scalar
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def parse_value(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """Parse what follows `--set KEY=`: a scalar or a flow collection, by the same rules."""
    return parse_yaml(text, Path("--set")).value
