"""Cache keys: everything a stage's result depends on, as one canonical JSON and its SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgekit.core.canonical import sha256_json, sha256_path
from edgekit.core.errors import InputError
from edgekit.core.options import Options
from edgekit.core.registry import entry_kind, registry
from edgekit.core.schema import to_plain
from edgekit.core.target import Target, host_cpu
from edgekit.pipeline.provenance import provenance

KEY_SCHEMA = 1


class KeyParts(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the parts of a key by name, so that `cache explain` can say which one differs."""

    stage: str
    version: int
    options: dict[str, Any]
    input: str | None
    uses: dict[str, str]
    target: dict[str, Any]
    data: str | None
    metric: dict[str, Any] | None
    seed: int
    source: str
    tools: dict[str, str]
    machine: dict[str, Any]
    device: dict[str, Any]
    schema: int = KEY_SCHEMA

    @property
    def key(self) -> str:
        """Return the key: the SHA-256 of the parts in canonical JSON."""
        return sha256_json(self)


class Difference(msgspec.Struct, frozen=True):
    """Hold one part in which two keys differ, by its dotted name, with both values."""

    name: str
    this: Any
    other: Any


def key_differences(this: KeyParts, other: KeyParts) -> tuple[Difference, ...]:
    """Return the parts in which two keys differ."""
    return tuple(_differing("", msgspec.to_builtins(this), msgspec.to_builtins(other)))


def _differing(path: str, this: Any, other: Any) -> Iterator[Difference]:  # noqa: ANN401
    if isinstance(this, dict) and isinstance(other, dict):
        for name in sorted(this.keys() | other.keys()):
            step = f"{path}.{name}" if path else name
            yield from _differing(step, this.get(name), other.get(name))
    elif this != other:
        yield Difference(path, this, other)


def stage_key(
    stage: Options,
    *,
    input_key: str | None,
    uses: dict[str, str],
    target: Target | None,
    data: str | None,
    metric: Options | None,
    seed: int,
    num_threads: int,
    device: dict[str, Any],
    modules: frozenset[str] = frozenset(),
) -> KeyParts:
    """Collect what the result of a stage depends on.

    Args:
        stage: The stage with its options.
        input_key: Key of the stage before, None for a model source.
        uses: Keys of other earlier stages it asks for, by label.
        target: The target, when the stage reads any of it.
        data: Fingerprint of dataset, splits and preprocessing.
        metric: The recipe's metric entry.
        seed: The recipe's seed.
        num_threads: Threads for training; results differ with them.
        device: Runner and device identity for measuring stages, else empty.
        modules: Further modules whose code counts, such as those of dataset and runner.
    """
    modules |= {type(entry).__module__ for entry in entries_of(stage)}
    by_name = getattr(stage, "modules", None)
    if by_name is not None:
        modules |= set(by_name(target))
    if metric is not None:
        modules |= {type(entry).__module__ for entry in entries_of(metric)}
    made_by = provenance(modules)
    kind = entry_kind(type(stage)) or "stages"
    return KeyParts(
        stage=registry(kind).name_of(type(stage)),
        version=int(stage.version),  # type: ignore[attr-defined]
        options=_content(stage),
        input=input_key,
        uses=uses,
        target=target_fields(target, stage_reads(stage)),
        data=data,
        metric=None if metric is None else _metric_content(metric),
        seed=seed,
        source=made_by.source,
        tools=made_by.tools,
        machine={"num_threads": num_threads, **machine_capability()},
        device=device,
    )


def stage_reads(stage: Options) -> tuple[str, ...]:
    """Return the target fields that a stage reads."""
    return tuple(getattr(stage, "reads", ()))


def target_fields(target: Target | None, reads: tuple[str, ...]) -> dict[str, Any]:
    """Return the target fields named in `reads`, as plain data."""
    if not reads or target is None:
        return {}
    return {name: msgspec.to_builtins(getattr(target, name)) for name in sorted(reads)}


def content_of(path: str) -> str:
    """Return what stands for a path in a key: the digest of what it holds.

    Raises:
        InputError: The path does not exist.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"{path} does not exist")
    return f"sha256:{sha256_path(place)}"


def machine_capability() -> dict[str, Any]:
    """Return this processor's abilities: floating-point results and host builds depend on them."""
    cpu = host_cpu()
    return {"cpu": f"{cpu.isa}/{cpu.core}", "features": sorted(cpu.features)}


def _metric_content(metric: Options) -> dict[str, Any]:
    return {registry("metrics").name_of(type(metric)): _content(metric)}


def _content(entry: Options) -> dict[str, Any]:
    content = to_plain(entry, content_of)
    fingerprint = getattr(entry, "fingerprint", None)  # the user's own code: its source counts
    return content if fingerprint is None else {**content, "source": fingerprint()}


def entries_of(options: Any) -> Iterator[Options]:  # noqa: ANN401 - any option value
    """Yield an option struct and every struct inside it."""
    if isinstance(options, Options):
        yield options
        for field in msgspec.structs.fields(type(options)):
            yield from entries_of(getattr(options, field.name))
    elif isinstance(options, (list, tuple)):
        for item in options:
            yield from entries_of(item)
    elif isinstance(options, dict):
        for item in options.values():
            yield from entries_of(item)
