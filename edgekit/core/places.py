"""Folders edgekit writes to outside the user's project."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder for edgekit: tools, device roots and, by default, the store.

    `XDG_CACHE_HOME` is honoured.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgekit"


def store_folder() -> Path:
    """Return where finished stages are kept: `EDGEKIT_STORE`, or a folder in the user's cache."""
    chosen = os.environ.get("EDGEKIT_STORE")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "store"
