"""Choose how every tensor of a network lies in memory.

Operators over images read and write images, dense layers and soft-max matrices, regions and
reshapes plain order. The others take what their first operand is, or what their result is wanted
as. An image has the padding that the most demanding of its readers needs: whoever makes it writes
that as well, so there is no padding step anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from edgekit.compiler.graph.operators import (
    Concat,
    Convolution,
    Dense,
    Dequantize,
    Elementwise,
    GlobalAverage,
    Lookup,
    Network,
    Operator,
    Pool,
    Quantize,
    Region,
    Rescale,
    Reshape,
    Resize,
    Softmax,
    Unary,
)
from edgekit.compiler.graph.rebias import is_shift
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.plan.algorithm import Algorithm, required_padding
from edgekit.compiler.plan.forms import (
    NO_PADS,
    Pads,
    has_few_channels,
    image_of,
    is_image,
)

Form = Literal["plain", "image"]
_OVER_IMAGES = (Convolution, Pool, GlobalAverage, Resize)
_PLAIN = (Dense, Softmax, Region, Reshape)
_EITHER = (Elementwise, Unary, Lookup, Rescale, Concat)
_CONVERSIONS = (Quantize, Dequantize)


class Layout(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold the decisions about a network's tensors.

    Args:
        forms: How each tensor is made: in plain order or as an image.
        images: Layout as an image of every tensor that is made or read as one.
    """

    forms: Mapping[str, Form]
    images: Mapping[str, Volume]

    def operand_form(self, operator: Operator, network: Network) -> Form:
        """Return the form in which an operator takes its operands."""
        if isinstance(operator, _OVER_IMAGES):
            return "image"
        if isinstance(operator, _PLAIN):
            return "plain"
        if is_conversion(operator, network):
            return self.forms[operator.reads[0]]
        return self.forms[operator.writes[0]]


def is_conversion(operator: Operator, network: Network) -> bool:
    """Return whether a kernel of an operator can also give the tensor another layout."""
    return isinstance(operator, _CONVERSIONS) or is_shift(operator, network)


def choose_layout(network: Network, algorithms: Mapping[str, Algorithm], isa: Isa) -> Layout:
    """Choose the layout of every tensor.

    Args:
        network: With all its levels in the dtype of the instruction set.
        algorithms: Of every convolution, by name.
        isa: Instruction set.
    """
    forms = _forms(network)
    draft = Layout(forms=forms, images={})
    pads: dict[str, Pads] = {}
    readers: dict[str, list[Operator]] = {}
    for operator in network.operators:
        if draft.operand_form(operator, network) == "image":
            for place, name in enumerate(operator.reads):
                readers.setdefault(name, []).append(operator)
                wanted = _wanted_pads(network, operator, place, algorithms, isa)
                pads[name] = _larger(pads.get(name, NO_PADS), wanted)
    made_as_images = [name for name, form in forms.items() if form == "image"]
    images = {
        name: image_of(
            network.tensors[name],
            isa,
            pads.get(name, NO_PADS),
            narrow=_is_narrow(network, forms, network.tensors[name], readers.get(name, [])),
        )
        for name in dict.fromkeys([*made_as_images, *readers])
    }
    return Layout(forms=forms, images=images)


def _forms(network: Network) -> dict[str, Form]:
    wanted = _wanted_as_images(network)
    forms: dict[str, Form] = dict.fromkeys(network.inputs, "plain")
    for operator in network.operators:
        for name in operator.writes:
            forms[name] = _form(network, operator, network.tensors[name], forms, wanted)
    return forms


def _form(
    network: Network,
    operator: Operator,
    tensor: Tensor,
    forms: Mapping[str, Form],
    wanted: Iterable[str],
) -> Form:
    if isinstance(operator, _OVER_IMAGES):
        return "image"
    if isinstance(operator, _PLAIN) or not _can_be_image(network, operator):
        return "plain"
    if is_conversion(operator, network):
        return "image" if tensor.name in wanted else "plain"
    reads_image = any(forms[name] == "image" for name in operator.reads)
    return (
        "image" if tensor.name in wanted or reads_image or _spreads(network, operator) else "plain"
    )


def _wanted_as_images(network: Network) -> set[str]:
    """Return tensors that some operator over images reads, directly or through others."""
    wanted: set[str] = set()
    for operator in reversed(network.operators):
        is_wanted = isinstance(operator, _OVER_IMAGES) or (
            not isinstance(operator, _PLAIN)
            and operator.writes[0] in wanted
            and _can_be_image(network, operator)
        )
        if is_wanted:
            wanted.update(operator.reads)
    return wanted


def _can_be_image(network: Network, operator: Operator) -> bool:
    if isinstance(operator, Concat) and operator.axis != 1:
        return False
    tensors = [network.tensors[name] for name in (*operator.reads, *operator.writes)]
    return all(is_image(tensor) for tensor in tensors)


def _spreads(network: Network, operator: Operator) -> bool:
    """Return whether one operand is one pixel that meets every pixel of the other."""
    shapes = {network.tensors[name].shape for name in operator.reads}
    return isinstance(operator, Elementwise) and len(shapes) > 1


def _wanted_pads(
    network: Network,
    operator: Operator,
    place: int,
    algorithms: Mapping[str, Algorithm],
    isa: Isa,
) -> Pads:
    if place > 0 or not isinstance(operator, Convolution | Pool):
        return NO_PADS
    x, y = network.tensors[operator.reads[0]], network.tensors[operator.writes[0]]
    return required_padding(operator, x, y, algorithms.get(operator.name), isa)


def _larger(first: Pads, second: Pads) -> Pads:
    top, left, bottom, right = (max(a, b) for a, b in zip(first, second, strict=True))
    return top, left, bottom, right


def _is_narrow(
    network: Network, forms: Mapping[str, Form], tensor: Tensor, readers: list[Operator]
) -> bool:
    """Return whether only convolutions read an image of few channels that a caller gives."""
    maker = next((item for item in network.operators if tensor.name in item.writes), None)
    is_packed = forms[tensor.name] == "plain" or (
        maker is not None and is_conversion(maker, network) and forms[maker.reads[0]] == "plain"
    )
    reads_alone = all(isinstance(item, Convolution) and item.groups == 1 for item in readers)
    first = all(
        item.reads[0] == tensor.name and tensor.name not in item.reads[1:] for item in readers
    )
    return is_packed and bool(readers) and reads_alone and first and has_few_channels(tensor)
