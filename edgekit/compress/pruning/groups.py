"""Coupled channels: which slices of which layers must be removed together.

torch-pruning traces the dependencies; this module turns them into plain data of our own (module
names and channel numbers), so that scores, allocation and surgery never touch its objects.

Why groups in units: a convolution in g groups needs equally many channels in each of its g blocks.
Channels at the same place of every block are therefore one unit, removed or kept as a whole, and
nothing downstream needs to know about blocks.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgekit.compress.pruning.macs import count_layers
from edgekit.core.errors import InputError, near, require_module

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal["out", "in"]

# Autograd's names for products of two activations: they sum over channels, or mix positions, and
# the heads in front of them have a fixed size.
_PRODUCTS = ("Bmm", "ScaledDotProduct")


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
    calls = {name: cost.num_calls for name, cost in count_layers(module, inputs).items()}
    found: list[Group] = []
    untouched: dict[str, str] = {}
    for traced in _trace(module, inputs):
        reason = _obstacle(traced, ignored_names, calls)
        group = None if reason else _as_group(traced)
        if group is None:
            untouched[traced.name] = reason or "blocks of a grouped convolution don't line up"
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
    """One layer side of a traced group, with pairs (its channel, channel of the root).

    `operation` is autograd's name of what was computed, such as `ReluBackward0`.
    """

    name: str
    layer: Any
    kind: Kind
    pairs: tuple[tuple[int, int], ...]
    is_last: bool
    operation: str


@dataclass(frozen=True, kw_only=True)
class _Traced:
    name: str
    num_channels: int
    items: tuple[_Item, ...]


def _trace(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Iterator[_Traced]:
    import torch
    import torch_pruning

    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            module, example_inputs=inputs, output_transform=_mark_outputs, verbose=False
        )
    names = {part: name for name, part in module.named_modules()}
    order = {name: index for index, name in enumerate(names.values())}
    for entries in graph.get_all_groups():
        items = tuple(_item(entry, names) for entry in entries)
        givers = [item.name for item in items if item.kind == "out" and _has_filters(item.layer)]
        yield _Traced(
            name=min(givers, key=order.__getitem__),
            num_channels=len(entries[0].idxs),
            items=items,
        )


def _mark_outputs(outputs: Any) -> list[torch.Tensor]:  # noqa: ANN401 - what a model gives
    """Put an operation behind every output, so that one that is also used inside is seen to end."""
    import torch

    found = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [output * 1.0 for output in found if isinstance(output, torch.Tensor)]


def _item(entry: Any, names: dict[nn.Module, str]) -> _Item:  # noqa: ANN401 - torch-pruning's
    node = entry.dep.target
    layer = node.module
    takes = entry.dep.handler.__name__ == "prune_in_channels" and _has_filters(layer)
    return _Item(
        name="" if _is_parameter(layer) else names.get(layer, ""),
        layer=layer,
        kind="in" if takes and not is_depthwise(layer) else "out",
        pairs=tuple(zip(entry.idxs, entry.root_idxs, strict=True)),
        is_last=not takes and not node.outputs,
        operation=node.grad_fn.name() if hasattr(node.grad_fn, "name") else "",
    )


def _obstacle(traced: _Traced, ignored: frozenset[str], calls: dict[str, int]) -> str | None:
    if any(item.is_last for item in traced.items):
        return "reaches the model's output"
    hits = sorted(item.name for item in traced.items if item.kind == "out" and item.name in ignored)
    if hits:
        return f"'{hits[0]}' is ignored"
    if any(word in item.operation for item in traced.items for word in _PRODUCTS):
        return "takes part in a product of activations, as in attention"
    for item in traced.items:
        if _is_parameter(item.layer) or (item.name in calls and not _is_supported(item.layer)):
            what = f"'{item.name}'" if item.name else "a raw parameter"
            return f"passes through {what} ({type(item.layer).__name__})"
        if calls.get(item.name, 0) > 1:
            return f"'{item.name}' is used more than once"
    return None


def _as_group(traced: _Traced) -> Group | None:
    items = [item for item in traced.items if _is_supported(item.layer)]
    units = _units(traced.num_channels, items)
    if units is None:
        return None
    place = {root: unit for unit, roots in enumerate(units) for root in roots}
    members = []
    for item in items:
        indices: list[list[int]] = [[] for _ in units]
        for index, root in item.pairs:
            indices[place[root]].append(index)
        members.append(
            Member(
                module=item.name,
                kind=item.kind,
                width=channel_count(item.layer, item.kind),
                indices=tuple(tuple(sorted(set(found))) for found in indices),
            )
        )
    return Group(
        name=traced.name,
        unit_size=len(units[0]),
        num_units=len(units),
        members=tuple(sorted(members, key=lambda member: (member.module, member.kind))),
    )


def _units(num_channels: int, items: list[_Item]) -> list[list[int]] | None:
    """Join the root channels that blocks of grouped convolutions tie together."""
    leader = list(range(num_channels))

    def find(root: int) -> int:
        while leader[root] != root:
            root = leader[root]
        return root

    for item in items:
        block = _block_size(item)
        first: dict[int, int] = {}
        covered: dict[int, set[int]] = {}
        for index, root in item.pairs:
            place = index % block
            covered.setdefault(place, set()).add(index)
            first.setdefault(place, root)
            low, high = sorted((find(first[place]), find(root)))
            leader[high] = low
        num_blocks = channel_count(item.layer, item.kind) // block
        if block and any(len(indices) != num_blocks for indices in covered.values()):
            return None
    units: dict[int, list[int]] = {}
    for root in range(num_channels):
        units.setdefault(find(root), []).append(root)
    found = list(units.values())
    return found if len({len(unit) for unit in found}) == 1 else None


def _block_size(item: _Item) -> int:
    groups = 1 if is_depthwise(item.layer) else getattr(item.layer, "groups", 1)
    return channel_count(item.layer, item.kind) // int(groups)


def channel_count(layer: nn.Module, kind: Kind) -> int:
    """Return how many channels one side of a convolution, linear or batch norm layer has."""
    from torch import nn

    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return layer.out_channels if kind == "out" else layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features if kind == "out" else layer.in_features
    return int(layer.num_features)  # type: ignore[arg-type]


def is_depthwise(layer: object) -> bool:
    """Return whether a layer filters every channel by itself."""
    from torch import nn

    is_conv = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return is_conv and 1 < layer.groups == layer.in_channels == layer.out_channels  # type: ignore[attr-defined]


def _has_filters(layer: object) -> bool:
    from torch import nn

    return isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))


def _is_supported(layer: object) -> bool:
    from torch import nn

    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return _has_filters(layer) or isinstance(layer, norms)


def _is_parameter(layer: object) -> bool:
    from torch import nn

    return isinstance(layer, nn.Parameter)
