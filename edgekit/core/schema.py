"""Schema: plain YAML data becomes typed options, or an error that names the place.

msgspec checks single values; this module walks structs, lists and variants itself, because the
place of a value in the file, the value found and the nearest known name belong into the message.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from edgekit.core.errors import EdgekitError, InputError, near
from edgekit.core.options import Meta, Named
from edgekit.core.registry import entry_kind, registry
from edgekit.core.yaml_file import Document, Key

S = TypeVar("S", bound=msgspec.Struct)


class Where(msgspec.Struct, frozen=True):
    """Know the place of a value: file, key path, and the folder relative paths start from."""

    file: str = ""
    key: Key = ()
    titles: tuple[str, ...] = ()
    base: Path = Path()
    lines: Mapping[Key, int] = msgspec.field(default_factory=dict)

    def at(self, step: str | int, title: str | None = None) -> Where:
        """Return the place one step further in; `title` is shown instead of the bare step."""
        shown = title if title is not None else (f"[{step}]" if isinstance(step, int) else step)
        return Where(self.file, (*self.key, step), (*self.titles, shown), self.base, self.lines)

    def __str__(self) -> str:
        line = self.lines.get(self.key)
        place = f"{self.file}:{line}" if line else self.file
        path = ""
        for title in self.titles:
            glue = "" if not path or title.startswith(("[", " ")) else "."
            path += glue + title
        return ": ".join(part for part in (place, path) if part)


def resolve_document(document: Document, kind: type[S], **fixed: Any) -> S:  # noqa: ANN401
    """Resolve a YAML document into `kind`; `fixed` fields are set by the caller, not the file."""
    where = Where(str(document.path), base=document.path.parent, lines=document.lines)
    return resolve_struct(document.value, kind, where, fixed)


def resolve_struct(
    value: object, kind: type[S], where: Where, fixed: Mapping[str, Any] | None = None
) -> S:
    """Resolve a mapping into struct `kind`.

    Raises:
        InputError: Unknown or missing key, wrong type, value out of range.
    """
    fixed = fixed or {}
    if not isinstance(value, Mapping):
        raise InputError(f"{where}", found=_show(value), expected="a mapping of options")
    fields = _fields(kind)
    for name in value:
        if name not in fields or name in fixed:
            raise InputError(
                f"{where.at(name)}: unknown option '{name}'",
                hint=near(name, set(fields) - set(fixed)),
            )
    named: Named | None = getattr(kind, "named", None)
    resolved: dict[str, Any] = dict(fixed)
    for name, field in fields.items():
        if name in fixed:
            continue
        if named is not None and name == "options":
            resolved[name] = _named_options(value, named, where)
        elif name in value:
            resolved[name] = resolve(value[name], field.annotation, where.at(name))
        elif field.required:
            raise InputError(f"{where}: option '{name}' is missing", hint=field.help)
    try:
        return kind(**resolved)
    except EdgekitError as error:
        raise InputError(
            f"{where}: {error.doing}",
            found=error.found,
            expected=error.expected,
            hint=error.hint,
        ) from error
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def resolve(value: object, annotation: Any, where: Where) -> Any:  # noqa: ANN401 - by annotation
    """Resolve one value by its annotation, with variants, structs, lists and scalars."""
    base, metas = _unwrap(annotation)
    for meta in metas:
        if meta.extra and meta.extra.get("keyed"):
            return _resolve_keyed(value, meta.extra["registry"], where)
        if meta.extra and "registry" in meta.extra:
            return resolve_variant(value, meta.extra["registry"], where)
        if meta.extra and meta.extra.get("path") and isinstance(value, str):
            place = (where.base / Path(value).expanduser()).resolve()
            is_name = meta.extra["path"] == "existing" and not place.exists()
            return value if is_name else str(place)
    origin = get_origin(base)
    if origin in (Union, types.UnionType):
        return _resolve_union(value, base, metas, where)
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        if isinstance(value, base):
            return value
        return resolve_struct(value, base, where)
    if origin in (tuple, list) and isinstance(value, list):
        items = get_args(base)
        element = items[0] if items else Any
        found = [resolve(item, element, where.at(index)) for index, item in enumerate(value)]
        if metas:  # bounds on the length; the items are checked already
            _check(value, list[Any], metas, where)
        return origin(found)
    if origin is dict and isinstance(value, Mapping):
        element = get_args(base)[1]
        return {str(key): resolve(item, element, where.at(str(key))) for key, item in value.items()}
    return _check(value, base, metas, where)


def resolve_variant(value: object, kind: str, where: Where) -> Any:  # noqa: ANN401 - an entry
    """Resolve `name` or `{name: options}` to an instance of that registry entry."""
    entries = registry(kind)
    name: str
    options: object = {}
    if isinstance(value, str):
        name = value
    elif isinstance(value, Mapping) and len(value) == 1:
        name, given = next(iter(value.items()))
        options = {} if given is None else given
    else:
        raise InputError(
            f"{where}",
            found=_show(value),
            expected=f"the name of a {entries.singular}, or one name with its options",
        )
    try:
        entry = entries.get(name)
    except InputError as error:
        raise InputError(f"{where}: {error.doing}", hint=error.hint) from error
    return resolve_struct(options, entry, where.at(name, f" '{name}'"))


def _resolve_keyed(value: object, kind: str, where: Where) -> Any:  # noqa: ANN401 - an entry
    entries = registry(kind)
    keys = list(value) if isinstance(value, Mapping) else []
    names = [key for key in keys if key in entries.names()]
    if len(names) != 1:
        expected = f"exactly one of {', '.join(entries.names())}"
        hint = near(str(keys[0]), entries.names()) if keys and not names else None
        found = ", ".join(map(str, names or keys)) or _show(value)
        raise InputError(f"{where}", found=found, expected=expected, hint=hint)
    return resolve_struct(value, entries.get(names[0]), where)


def to_plain(
    options: msgspec.Struct, path_content: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """Return options as plain data, each variant as `{name: options}`, every default included.

    Args:
        options: The struct to write out.
        path_content: What stands for a path, for cache keys; None keeps the path itself.
    """
    named = getattr(type(options), "named", None)
    plain: dict[str, Any] = {}
    for name, field in _fields(type(options)).items():
        value = getattr(options, name)
        if named is not None and name == "options" and value is not None:
            plain[name] = to_plain(value, path_content)
        else:
            plain[name] = _plain(value, field.annotation, path_content)
    return plain


class _Field(typing.NamedTuple):
    annotation: Any
    required: bool
    help: str | None


def _fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: _Field(hints[field.name], field.required, _help(hints[field.name]))
        for field in msgspec.structs.fields(kind)
    }


def _help(annotation: Any) -> str | None:  # noqa: ANN401 - an annotation
    return _meta_hint(_unwrap(annotation)[1])


def _unwrap(annotation: Any) -> tuple[Any, tuple[Meta, ...]]:  # noqa: ANN401 - an annotation
    if get_origin(annotation) is Annotated:
        base, *metas = get_args(annotation)
        return base, tuple(meta for meta in metas if isinstance(meta, Meta))
    return annotation, ()


def _named_options(value: Mapping[str, Any], named: Named, where: Where) -> Any:  # noqa: ANN401
    name = value.get(named.field)
    entries = registry(named.kind)
    if not isinstance(name, str):
        raise InputError(f"{where}", expected=f"'{named.field}' with the name of an entry")
    try:
        entry = entries.get(name)
    except InputError as error:
        raise InputError(f"{where.at(named.field)}: {error.doing}", hint=error.hint) from error
    return resolve_struct(value.get("options") or {}, entry, where.at("options"))


def _resolve_union(value: object, base: Any, metas: tuple[Meta, ...], where: Where) -> Any:  # noqa: ANN401
    members = get_args(base)
    if value is None and type(None) in members:
        return None
    rich = [member for member in members if _is_rich(member)]
    scalars = [member for member in members if not _is_rich(member) and member is not type(None)]
    is_container = isinstance(value, (Mapping, list))
    if rich and (is_container or not scalars):
        wanted = [member for member in rich if _takes(member, value)] or rich
        return resolve(value, wanted[0], where)
    if len(scalars) == 1:
        return resolve(value, scalars[0], where)
    return _check(value, Union[tuple(scalars)] if scalars else base, metas, where)  # noqa: UP007


def _is_rich(member: Any) -> bool:  # noqa: ANN401 - an annotation
    base, metas = _unwrap(member)
    if any(meta.extra and "registry" in meta.extra for meta in metas):
        return True
    return get_origin(base) in (tuple, list, dict) or (
        isinstance(base, type) and issubclass(base, msgspec.Struct)
    )


def _takes(member: Any, value: object) -> bool:  # noqa: ANN401 - an annotation
    is_list = get_origin(_unwrap(member)[0]) in (tuple, list)
    return is_list == isinstance(value, list)


def _check(value: object, base: Any, metas: tuple[Meta, ...], where: Where) -> Any:  # noqa: ANN401
    annotation = Annotated[base, *metas] if metas else base
    try:
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{where} is {_show(value)}",
            expected=_expectation(str(error), base),
            hint=_meta_hint(metas),
        ) from None


def _expectation(message: str, base: Any) -> str:  # noqa: ANN401 - an annotation
    text = message.partition(" - at ")[0]
    text = text.removeprefix("Expected ").replace("`", "").partition(", got ")[0]
    words = ", ".join(map(repr, _literals(base)))
    if text.startswith("Invalid enum value"):
        return f"one of {words}"
    return f"{text.replace('str', 'one of ' + words)}" if words else text


def _literals(base: Any) -> list[object]:  # noqa: ANN401 - an annotation
    if get_origin(base) is Literal:
        return list(get_args(base))
    members = get_args(base) if get_origin(base) in (Union, types.UnionType, Annotated) else ()
    return [word for member in members for word in _literals(member)]


def _meta_hint(metas: tuple[Meta, ...]) -> str | None:
    return next((str(meta.description) for meta in metas if meta.description), None)


def _show(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return "nothing" if value is None else text if len(text) <= 60 else f"{text[:57]}..."


def _plain(value: Any, annotation: Any, path_content: Callable[[str], str] | None) -> Any:  # noqa: ANN401
    if isinstance(value, msgspec.Struct):
        kind = entry_kind(type(value)) or _declared_kind(annotation)
        plain = to_plain(value, path_content)
        if kind is None or kind == "sources":
            return plain
        return {registry(kind).name_of(type(value)): plain}
    base, _ = _unwrap(annotation)
    if isinstance(value, (list, tuple)):
        items = get_args(base)
        return [_plain(item, items[0] if items else Any, path_content) for item in value]
    if isinstance(value, dict):
        items = get_args(base)
        element = items[1] if len(items) == 2 else Any
        return {key: _plain(item, element, path_content) for key, item in value.items()}
    if path_content is not None and isinstance(value, str) and is_path(annotation):
        # Resolved paths are absolute; what is not is a name that could have been a path.
        return path_content(value) if Path(value).is_absolute() else value
    return msgspec.to_builtins(value)


def is_path(annotation: Any) -> bool:  # noqa: ANN401 - an annotation
    """Tell whether an annotation marks a path, also inside an optional."""
    base, metas = _unwrap(annotation)
    if any(meta.extra and meta.extra.get("path") for meta in metas):
        return True
    members = get_args(base) if get_origin(base) in (Union, types.UnionType) else ()
    return any(is_path(member) for member in members)


def _declared_kind(annotation: Any) -> str | None:  # noqa: ANN401 - an annotation
    base, metas = _unwrap(annotation)
    kinds = [meta.extra["registry"] for meta in metas if meta.extra and "registry" in meta.extra]
    if kinds:
        return str(kinds[0])
    members = get_args(base) if get_origin(base) in (Union, types.UnionType) else ()
    return next((kind for member in members if (kind := _declared_kind(member))), None)
