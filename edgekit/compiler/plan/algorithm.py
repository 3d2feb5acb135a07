"""Choose how each convolution is computed: directly, channel by channel, or by Winograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from edgekit.compiler.graph.operators import (
    Convolution,
    Dense,
    Network,
    Operator,
    Pool,
    ToFloat,
)
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.convolution.geometry import required_pads
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.winograd.choice import choose_winograd, weights_bytes, winograd_gain
from edgekit.compiler.kernels.winograd.floats import winograd_pads
from edgekit.compiler.kernels.winograd.levels_choice import (
    choose_winograd_levels,
    levels_gain,
    levels_weights_bytes,
)
from edgekit.compiler.kernels.winograd.matrices import TileSize
from edgekit.compiler.plan.forms import Pads, has_few_channels

_PACKING = 1.02  # what fills the last vectors of weights
_CODE_BYTES = 512 * 1024
_GROWTH = 2.5
"""What `auto` lets all weights grow to without a bound: ResNet-18's gain nothing beyond it."""

Algorithm = Literal["direct", "depthwise", "winograd-f2", "winograd-f4"]
_TILES: dict[Algorithm, TileSize] = {"winograd-f2": 2, "winograd-f4": 4}
WinogradChoice = Literal["auto", "off", "f2", "f4"]
_SIZES: dict[WinogradChoice, tuple[TileSize, ...]] = {
    "off": (),
    "f2": (2,),
    "f4": (4,),
    "auto": (2, 4),
}


class AlgorithmOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much a plan may trade.

    Args:
        winograd: `auto` takes the size that pays best, `f2` and `f4` one size where it is possible.
        size_bytes: What the library may need; None for 2.5 times what it needs without Winograd.
            Only `auto` minds it.
    """

    winograd: WinogradChoice = "auto"
    size_bytes: int | None = None


def choose_algorithms(
    network: Network, options: AlgorithmOptions, isa: Isa
) -> dict[str, Algorithm]:
    """Return the algorithm of every convolution, by operator name."""
    chosen: dict[str, Algorithm] = {}
    candidates: list[list[_Candidate]] = []
    for operator in network.operators:
        if isinstance(operator, Convolution):
            alone = is_depthwise(operator) and not _changes_blocks(operator, isa)
            chosen[operator.name] = "depthwise" if alone else "direct"
            candidates.append(_candidates(network, operator, options.winograd, isa))
    constants = _constant_bytes(network)
    limit: int | None = options.size_bytes or int(_GROWTH * constants * _PACKING) + _CODE_BYTES
    if options.winograd != "auto":
        limit = None
    for kept in _within(candidates, limit, constants):
        chosen[kept.operator] = next(name for name, m in _TILES.items() if m == kept.m)
    return chosen


def winograd_growth(network: Network, algorithms: Mapping[str, Algorithm]) -> int:
    """Return how many bytes Winograd adds to the weights of a network."""
    growth = 0
    for operator in network.operators:
        m = winograd_size(algorithms.get(operator.name))
        if isinstance(operator, Convolution) and m is not None:
            growth += _growth_of(operator, m)
    return growth


def winograd_size(algorithm: Algorithm | None) -> TileSize | None:
    """Return the size of Winograd's tiles, None for another algorithm."""
    return None if algorithm is None else _TILES.get(algorithm)


def _growth_of(operator: Convolution, m: TileSize) -> int:
    size_of = weights_bytes if operator.result is None else levels_weights_bytes
    return size_of(operator, m) - operator.weights.nbytes


def is_depthwise(operator: Convolution) -> bool:
    """Return whether every channel has one filter of its own."""
    outputs, inputs = operator.weights.shape[:2]
    return operator.groups > 1 and outputs == operator.groups and inputs == 1


def _changes_blocks(operator: Convolution, isa: Isa) -> bool:
    """Return whether the result has fewer channels side by side than the operand."""
    return isinstance(operator.result, ToFloat) and isa.level_block != isa.float_block


class _Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one way to compute one convolution by Winograd.

    Args:
        operator: Its name.
        m: Size of the tiles.
        saved: Multiply-adds it is worth.
        size: Bytes its weights take beyond those of direct convolution.
    """

    operator: str
    m: TileSize
    saved: float
    size: int


def _candidates(
    network: Network, operator: Convolution, choice: WinogradChoice, isa: Isa
) -> list[_Candidate]:
    """Return the ways that are worth it, the best one first."""
    sizes = _SIZES[choice]
    x, y = network.tensors[operator.reads[0]], network.tensors[operator.writes[0]]
    if not sizes or has_few_channels(x):
        return []
    is_float = operator.result is None
    choose = choose_winograd if is_float else choose_winograd_levels
    gain = winograd_gain if is_float else levels_gain
    found: list[_Candidate] = []
    while sizes:
        m: TileSize | None = choose(operator, x, y, isa, sizes=sizes)
        if m is None:
            break
        saved = operator_macs(operator, network) * (1 - 1 / gain(operator, x, y, isa, m))
        size = _growth_of(operator, m)
        found.append(_Candidate(operator=operator.name, m=m, saved=saved, size=size))
        sizes = (2,) if m == 4 and 2 in sizes else ()
    return found


def _within(
    candidates: list[list[_Candidate]], limit: int | None, constants: int
) -> list[_Candidate]:
    """Return the first of each list, or what comes behind it, so that all of it fits."""
    open_ones = [list(ways) for ways in candidates if ways]
    spare = None if limit is None else limit - int(constants * _PACKING) - _CODE_BYTES
    while spare is not None and sum(ways[0].size for ways in open_ones) > spare and open_ones:
        # Give up where the fewest multiply-adds are lost for a byte.
        worst = min(open_ones, key=_worth_of_first)
        worst.pop(0)
        open_ones = [ways for ways in open_ones if ways]
    return [ways[0] for ways in open_ones]


def _worth_of_first(ways: list[_Candidate]) -> float:
    saved, size = (ways[1].saved, ways[1].size) if len(ways) > 1 else (0.0, 0)
    return (ways[0].saved - saved) / max(ways[0].size - size, 1)


def _constant_bytes(network: Network) -> int:
    return sum(
        item.weights.nbytes for item in network.operators if isinstance(item, Convolution | Dense)
    )


def required_padding(
    operator: Operator, x: Tensor, y: Tensor, algorithm: Algorithm | None, isa: Isa
) -> Pads:
    """Return the least padding that an operator's kernel needs around its input."""
    if isinstance(operator, Pool):
        return (0, 0, 0, 0)
    assert isinstance(operator, Convolution), operator
    m = winograd_size(algorithm)
    if m is not None:
        return winograd_pads(operator, x, y, m)
    return required_pads(operator, x, y, isa)


def operator_macs(operator: Operator, network: Network) -> int:
    """Return the multiply-adds of an operator as written, 0 where it has none."""
    weights = getattr(operator, "weights", None)
    if weights is None:
        return 0
    written = network.tensors[operator.writes[0]].size
    return int(written * np.prod(weights.shape[1:]))
