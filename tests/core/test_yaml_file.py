"""YAML is read by version 1.2, keeps its lines, and refuses what could mislead."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.core.yaml_file import MAX_BYTES, load_yaml, parse_value, parse_yaml

HERE = Path("recipe.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_lines_of_every_key_path_are_known() -> None:
    document = parse_yaml("a: 1\nstages:\n  - train:\n      epochs: 2\n", HERE)
    assert document.lines["stages", 0, "train", "epochs"] == 4


def test_duplicate_key_names_both_lines() -> None:
    with pytest.raises(InputError, match=r"recipe.yaml:3: key 'a' appears twice.*first at line 1"):
        parse_yaml("a: 1\nb: 2\na: 3\n", HERE)


def test_python_tags_are_refused() -> None:
    with pytest.raises(InputError, match=r"tag '.*python/object.*' is not allowed"):
        parse_yaml("a: !!python/object/apply:os.system ['true']", HERE)


def test_alias_bomb_is_refused() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for name, inner in zip("bcdefg", "abcdef", strict=True):
        text += f"{name}: &{name} [{','.join([f'*{inner}'] * 10)}]\n"
    with pytest.raises(InputError, match="more than 20000 values"):
        parse_yaml(text, HERE)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InputError, match=r"32 levels|nested too deeply"):
        parse_yaml("[" * 5000 + "]" * 5000, HERE)


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(InputError, match=r"recipe.yaml:2: not valid YAML"):
        parse_yaml("a: [1,\nb: }", HERE)


def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_yaml(tmp_path / "no.yaml")
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="at most 1 MiB"):
        load_yaml(big)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="reading"):
        load_yaml(path)


@given(st.text(max_size=200))
def test_any_text_is_a_value_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_yaml(text, HERE)
