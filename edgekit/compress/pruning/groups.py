"""Coupled channels: which slices of which layers must be removed together.

torch-pruning traces the dependencies; this module turns them into plain data of our own (module
names and channel numbers), so that scores, allocation and surgery never touch its objects.

Why groups in units: a convolution in g groups needs equally many channels in each of its g blocks.
Channels at the same place of every block are therefore one unit, removed or kept as a whole, and
nothing downstream needs to know about blocks.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.errors import InputError, near, require_module

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal["out", "in"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One side of one layer that takes part in a group.

    Attributes:
        module: Dotted module name.
        kind: `out` for channels the layer gives, `in` for those it takes; normalisation and
            depthwise convolution, which give what they take, are `out`.
        width: All channels of that side, including those of other groups.
        indices: For each unit of the group, the channels of this side that belong to it; a
            flattened map of H x W pixels gives H*W of them, a concatenation may give none.
    """

    module: str
    kind: Kind
    width: int
    indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that live and die together across layers.

    Attributes:
        name: The first layer that gives these channels.
        unit_size: Channels of that layer in one unit; 1 without grouped convolutions.
        num_units: What can be removed independently.
        members: Every side of every layer that a removal cuts.
    """

    name: str
    unit_size: int
    num_units: int
    members: tuple[Member, ...]

    @property
    def num_channels(self) -> int:
        """Channels of the layer the group is named after."""
        return self.unit_size * self.num_units


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """All groups of a model, in the order of its layers, and what is left alone and why."""

    groups: tuple[Group, ...]
    untouched: dict[str, str]


def find_groups(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], *, ignored: Sequence[str] = ()
) -> Coupling:
    """Trace a model and return the groups of channels that may be removed.

    Groups that reach the model's output, match `ignored`, or pass through a layer whose result
    would change by more than the removed channels (layer normalisation, raw parameters) are left
    untouched.

    Args:
        module: Model, put into eval mode.
        inputs: Arguments of `forward`, any values.
        ignored: Module names or patterns such as `block1.*`; a name covers what is inside.

    Raises:
        InputError: A pattern that matches no module.
    """
    require_module("torch_pruning", "torch")
    ignored_names = matching_modules(module, ignored)
    found, untouched = [], {}
    for traced in _trace(module, inputs):
        name = traced.name
        reason = _obstacle(traced, ignored_names)
        group = None if reason else _as_group(traced)
        if group is None:
            untouched[name] = reason or "blocks of a grouped convolution don't line up"
        else:
            found.append(group)
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    found.sort(key=lambda group: order[group.name])
    return Coupling(groups=tuple(found), untouched=untouched)


def matching_modules(module: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Return the modules that patterns name, with everything inside them.

    Raises:
        InputError: A pattern that matches no module; the nearest name is offered.
    """
    names = [name for name, _ in module.named_modules() if name]
    matched: set[str] = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            raise InputError(f"ignored: no module matches '{pattern}'", hint=near(pattern, names))
        matched.update(hits)
    inside = (name for name in names if any(name.startswith(f"{hit}.") for hit in matched))
    return frozenset(matched | set(inside))


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One dependency of a traced group: layer, side, and pairs (channel, channel of the root)."""

    name: str
    layer: Any
    kind: Kind
    pairs: tuple[tuple[int, int], ...]
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class _Traced:
    name: str
    num_channels: int
    items: tuple[_Item, ...]


def _trace(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Iterable[_Traced]:
    import torch
    import torch_pruning

    calls = _count_calls(module, inputs)
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            module, example_inputs=inputs, verbose=False
        )
    names = {part: name for name, part in module.named_modules()}
    for group in graph.get_all_groups():
        items = tuple(_item(entry, names, calls) for entry in group)
        givers = [item.name for item in items if item.kind == "out" and _is_linear_map(item.layer)]
        order = list(names.values())
        yield _Traced(
            name=min(givers, key=order.index),
            num_channels=len(group[0].idxs),
            items=items,
        )


def _item(entry: Any, names: dict[nn.Module, str], calls: dict[str, int]) -> _Item:  # noqa: ANN401
    target = entry.dep.target
    layer = target.module
    name = names.get(layer, "") if not _is_parameter(layer) else "a raw parameter"
    takes = entry.dep.handler.__name__ == "prune_in_channels" and _is_linear_map(layer)
    return _Item(
        name=name,
        layer=layer,
        kind="in" if takes and not _is_depthwise(layer) else "out",
        pairs=tuple(zip(entry.idxs, entry.root_idxs, strict=True)),
        is_last=not takes and not target.outputs,
    )


def _count_calls(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, int]:
    from edgekit.compress.pruning.macs import count_layers

    return {name: cost.num_calls for name, cost in count_layers(module, inputs).items()}
