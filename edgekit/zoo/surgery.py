"""Surgery: what was done to a network's structure, as an ordered list of typed edits.

A torch model on disk is its architecture, these edits and its weights; edits are replayed on the
fresh network before the weights load. Each edit is one struct with a version of its own: when its
meaning must change, the number grows and both meanings stay readable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgekit.core.errors import InputError, near
from edgekit.core.files import read_json, write_json

if TYPE_CHECKING:
    from torch import nn

FILE_NAME = "surgery.json"


class Edit(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="edit",
    tag=lambda name: "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-"),
):
    """Change the structure of a network in one way; subclasses are listed in `AnyEdit`."""

    version: Literal[1] = 1

    @abstractmethod
    def apply(self, model: nn.Module) -> None:
        """Change `model` in place, keeping the values of what stays.

        Raises:
            InputError: The edit does not fit the network.
        """


class KeepChannels(Edit, frozen=True, kw_only=True):
    """Keep only some channels of one module and cut away the others.

    Args:
        module: Dotted name within the model, such as `block1.body.first.conv`.
        kind: `out` for channels it gives, `in` for channels it takes. Modules that give what they
            take (normalisation, depthwise convolution) are cut once, with either word.
        keep: Channels to keep, ascending.
    """

    module: str
    kind: Literal["out", "in"]
    keep: tuple[int, ...]

    def apply(self, model: nn.Module) -> None:
        """Cut the weights and the attributes that state their sizes.

        Raises:
            InputError: No such module, a channel that is not there, a module that can't be cut.
        """
        from edgekit.zoo.channels import keep_channels

        keep_channels(find_module(model, self.module), self.keep, kind=self.kind, name=self.module)


AnyEdit = KeepChannels
"""Union of all edits, what `surgery.json` may hold; a new edit is a class and a name here."""


class Surgery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold the edits as they are written to disk."""

    schema: Literal[1] = 1
    edits: tuple[AnyEdit, ...] = ()


def replay(model: nn.Module, edits: Sequence[AnyEdit]) -> None:
    """Apply edits in order, in place.

    Raises:
        InputError: An edit does not fit; the message says which one.
    """
    for index, edit in enumerate(edits):
        try:
            edit.apply(model)
        except InputError as error:
            raise InputError(
                f"surgery edit {index}: {error.doing}",
                found=error.found,
                expected=error.expected,
                hint=error.hint,
            ) from error


def find_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module of that dotted name.

    Raises:
        InputError: No such module; the nearest name is offered.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules:
        raise InputError(f"the model has no module '{name}'", hint=near(name, set(modules) - {""}))
    return modules[name]


def write_surgery(folder: Path, edits: Sequence[AnyEdit]) -> None:
    """Write `surgery.json` into a checkpoint folder."""
    write_json(folder / FILE_NAME, Surgery(edits=tuple(edits)))


def read_surgery(folder: Path) -> tuple[AnyEdit, ...]:
    """Read `surgery.json` from a checkpoint folder.

    Raises:
        InputError: The file is missing, damaged or from a newer edgekit.
    """
    return read_json(folder / FILE_NAME, Surgery).edits
