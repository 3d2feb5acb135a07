"""The model a stage received, as teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.core.options import Options

if TYPE_CHECKING:
    from torch import nn

    from edgekit.learn.contracts import TeacherProvider


class Input(Options, frozen=True, kw_only=True):
    """Teach with the model that the stage received, as it was before the stage changed it."""

    def open(
        self, received: nn.Module, taps: tuple[str, ...], *, remember: int | None
    ) -> TeacherProvider:
        """Return a frozen provider over the received model."""
        from edgekit.learn.frozen import FrozenTeacher

        return FrozenTeacher(received, taps, remember=remember)
