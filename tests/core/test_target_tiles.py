"""Measured tiles come with the target, the user's own before those that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.core.files import write_json
from edgekit.core.target import TileTable, load_target, tile_file


def table(tile: str) -> TileTable:
    return TileTable(
        target="rpi4", device="a board", unit="us", tiles={"conv": tile}, gains={"conv": 1.1}
    )


def test_the_users_tiles_are_used_when_present(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tile_file("rpi4", tmp_path / "targets")
    path.parent.mkdir(parents=True)
    write_json(path, table("1x6x2"))
    assert load_target("rpi4").tiles == {"conv": "1x6x2"}


def test_a_damaged_tile_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tile_file("rpi4", tmp_path / "targets")
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="ascii")
    with pytest.raises(InputError, match=r"rpi4.json is damaged"):
        load_target("rpi4")
