"""Foreign text made harmless: names and messages that come from recipes, models and devices."""

from __future__ import annotations

import unicodedata

# Marks that turn the direction of the text around them: a name could pass for another.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Return `text` on one line, with what could steer a terminal or a browser replaced."""
    return text if text.isprintable() else "".join(_harmless(char) for char in text)


def _harmless(char: str) -> str:
    if char in "\n\t\r":
        return " "
    if char in _DIRECTION or unicodedata.category(char) in {"Cc", "Cs"}:
        return "\ufffd"
    return char
