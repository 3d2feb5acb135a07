"""The engine race: which engine of a compiled model is the one to ship."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from edgekit.core.report import EngineReport

SelectedBy = Literal["latency", "order"]


class Selection(msgspec.Struct, frozen=True):
    """Hold the race's result: the engines with the winner marked, and what decided."""

    engines: tuple[EngineReport, ...]
    winner: EngineReport | None
    selected_by: SelectedBy | None


def disqualify_inaccurate(
    engines: Sequence[EngineReport], limit: float
) -> tuple[EngineReport, ...]:
    """Disqualify engines that predict worse than the ONNX model on the same samples.

    Args:
        engines: All engines that were built.
        limit: Most that an engine may lose of the metric on the device.
    """
    return tuple(
        msgspec.structs.replace(
            engine,
            disqualified=f"loses {engine.accuracy_loss:.4f} of the metric against the ONNX model "
            f"on the same {engine.num_images} samples, at most {limit:g} is allowed",
        )
        if engine.disqualified is None and (engine.accuracy_loss or 0.0) > limit
        else engine
        for engine in engines
    )


def select_engine(engines: Sequence[EngineReport], order: Sequence[str]) -> Selection:
    """Choose the fastest engine that is not disqualified.

    Where one of the qualified engines has no latency (an emulator has none for any), the target's
    order of preference decides.

    Args:
        engines: All engines that were built.
        order: The target's engines in order of preference.
    """
    qualified = [engine for engine in engines if engine.disqualified is None]
    if not qualified:
        return Selection(tuple(engines), None, None)
    timed = [(engine.latency.p50_ms, engine) for engine in qualified if engine.latency is not None]
    selected_by: SelectedBy
    if len(timed) == len(qualified):
        winner, selected_by = min(timed, key=lambda row: row[0])[1], "latency"
    else:
        winner, selected_by = min(qualified, key=lambda engine: _place(engine, order)), "order"
    marked = tuple(
        msgspec.structs.replace(engine, selected=engine.engine == winner.engine)
        for engine in engines
    )
    chosen = next(engine for engine in marked if engine.selected)
    return Selection(marked, chosen, selected_by)


def _place(engine: EngineReport, order: Sequence[str]) -> int:
    return order.index(engine.engine) if engine.engine in order else len(order)
