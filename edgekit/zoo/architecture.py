"""What an architecture entry offers, and the part of a recipe that names one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, cast

from edgekit.core.model import TensorSpec
from edgekit.core.options import Meta, Named, Options, variant
from edgekit.core.registry import registry

if TYPE_CHECKING:
    from torch import nn

Signature = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs of a model."""

NumClasses = Annotated[int, Meta(ge=2, le=100_000, description="Number of classes")]
InChannels = Annotated[int, Meta(ge=1, le=64, description="Channels of the image")]
ImageSize = Annotated[int, Meta(ge=8, le=1024, description="Height and width in pixels")]


class ArchitectureEntry(Protocol):
    """Build one network; implementers are options structs in `edgekit/zoo/architectures`."""

    def build(self) -> nn.Module:
        """Return the network with fresh weights, drawn from torch's global generator."""
        ...

    def signature(self) -> Signature:
        """Return inputs and outputs; the first size of each is None, the batch."""
        ...


class ArchitectureChoice(Options, frozen=True, kw_only=True):
    """Name an architecture and its options."""

    named: ClassVar[Named] = Named("architecture", "architectures")

    architecture: Annotated[str, Meta(description="Name from `edgekit list architectures`")]
    options: Annotated[Options, variant("architectures", "Options of the architecture")] | None = (
        None
    )

    def entry(self) -> ArchitectureEntry:
        """Return the named entry with its options.

        Raises:
            InputError: No such architecture.
        """
        chosen: Any = self.options
        if chosen is None:
            chosen = registry("architectures").get(self.architecture)()
        return cast(ArchitectureEntry, chosen)


def image_signature(channels: int, size: int, num_classes: int) -> Signature:
    """Return the signature of a classifier of square float32 images, channels first."""
    inputs = TensorSpec("image", "float32", (None, channels, size, size))
    return (inputs,), (TensorSpec("logits", "float32", (None, num_classes)),)
