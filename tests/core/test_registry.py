"""The folder is the registry, and no entry needs a framework to be listed or validated."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from edgekit.core.errors import InputError
from edgekit.core.options import Options
from edgekit.core.registry import FOLDERS, class_name, entry_kind, registry

ENTRIES = [(kind, name) for kind in FOLDERS for name in registry(kind).names()]
FRAMEWORKS = "numpy torch onnx onnxruntime tvm sklearn transformers optimum neural_compressor"


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_entry_is_a_documented_frozen_struct_of_options(kind: str, name: str) -> None:
    entry = registry(kind).get(name)
    assert issubclass(entry, Options)
    assert entry.__struct_config__.frozen
    assert entry.__struct_config__.forbid_unknown_fields
    assert registry(kind).help(name)
    assert registry(kind).name_of(entry) == name
    assert entry_kind(entry) == kind


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_option_can_be_resolved_by_annotation(kind: str, name: str) -> None:
    from edgekit.core.json_schema import json_schema

    schema = json_schema(registry(kind).get(name), name, frozenset())
    assert set(schema["properties"]) >= {
        field.name for field in msgspec.structs.fields(registry(kind).get(name))
    }


def test_all_entries_import_without_a_framework() -> None:
    code = (
        "import sys\n"
        "from edgekit.core.registry import FOLDERS, registry\n"
        "for kind in FOLDERS:\n"
        "    for name in registry(kind).names(): registry(kind).get(name)\n"
        f"loaded = [m for m in '{FRAMEWORKS}'.split() if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown dataset 'digit'.*Did you mean 'digits'"):
        registry("datasets").get("digit")


def test_underscores_are_read_as_hyphens() -> None:
    assert registry("metrics").get("top_1") is registry("metrics").get("top-1")


def test_class_name_follows_the_file() -> None:
    assert class_name("dynamic_kd") == "DynamicKd"


@pytest.mark.parametrize("kind", list(FOLDERS))
def test_singular_reads_as_one_entry(kind: str) -> None:
    assert registry(kind).singular
