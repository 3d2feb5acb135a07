"""What commands print: tables for people, JSON for machines."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgekit.core.report import BuildReport
    from edgekit.devices.session import Check
    from edgekit.evaluation.tuning import Tuning
    from edgekit.pipeline.build import BuildRequest
    from edgekit.pipeline.catalog import EntryHelp
    from edgekit.pipeline.compare import Comparison
    from edgekit.pipeline.explain import Explanation
    from edgekit.pipeline.plan import Plan
    from edgekit.pipeline.store import Store
    from edgekit.pipeline.verify import Verification


def show_json(value: object) -> None:
    """Print one JSON document on one line."""
    click.echo(msgspec.json.encode(value).decode())


def show_reports(reports: Sequence[BuildReport], *, as_json: bool) -> None:
    """Print what builds found."""
    if as_json:
        for report in reports:
            show_json({"event": "report", "report": report})
        return
    from edgekit.pipeline.report.terminal import render

    console = Console()
    for report in reports:
        render(report, console)


def show_plans(
    request: BuildRequest, plans: Sequence[Plan], files: Mapping[str, str], *, as_json: bool
) -> None:
    """Print plans: which file each name stands for, then a line per stage with its state."""
    from edgekit.core.places import store_folder
    from edgekit.pipeline.plan import explain_plans
    from edgekit.pipeline.store import Store

    lines = explain_plans(list(plans), Store(store_folder()))
    if as_json:
        rows = [
            {
                "recipe": plan.recipe.name,
                "target": plan.target.name,
                "runner": plan.runner,
                "files": files,
                "stages": stages,
            }
            for plan, stages in zip(plans, lines, strict=True)
        ]
        show_json(rows)
        return
    console = Console()
    for name, place in files.items():
        console.print(f"{name}: {place}", markup=False, highlight=False, soft_wrap=True)
    for plan, stages in zip(plans, lines, strict=True):
        table = _table(
            f"{plan.recipe.name} for {plan.target.name}, measured on {plan.runner}",
            ("stage", "key", "state", "why", "shared with"),
        )
        for line in stages:
            state = "[green]cached[/]" if line.status == "cached" else "[yellow]run[/]"
            shared = ", ".join(line.shared_with)
            table.add_row(line.label, line.key[:12], state, escape(line.reason), shared)
        console.print(table)
    if request.until:
        console.print(f"stops after '{request.until}'")


def show_verification(bundle: Path, result: Verification, *, as_json: bool) -> None:
    """Print whether a bundle is whole."""
    if as_json:
        show_json(result)
        return
    if result.ok:
        click.echo(f"{bundle}: whole, manifest sha256:{result.manifest_digest}")
        return
    for problem in result.problems:
        reason = f" ({problem.reason})" if problem.reason else ""
        click.echo(f"{problem.kind}: {problem.path}{reason}")


def show_comparison(comparison: Comparison, form: str) -> None:
    """Print two bundles side by side."""
    from edgekit.pipeline.report.comparison import comparison_markdown, render_comparison

    if form == "json":
        show_json(comparison)
    elif form == "markdown":
        click.echo(comparison_markdown(comparison))
    else:
        render_comparison(comparison, Console())


def show_tuning(tuning: Tuning, path: Path, *, as_json: bool) -> None:
    """Print what tuning found, the layers that gained most first."""
    if as_json:
        show_json({"file": str(path), **msgspec.to_builtins(tuning)})
        return
    unit = tuning.table.unit
    table = _table(
        f"{tuning.table.target} on {tuning.table.device}",
        ("gain", unit, "tile", "analytic tile", "layer"),
    )
    for layer in sorted(tuning.layers, key=lambda layer: -layer.gain):
        cells = (f"{layer.gain:.2f}x", f"{layer.cost:,.1f}", layer.tile, layer.analytic)
        table.add_row(*cells, layer.layer)
    console = Console()
    console.print(table)
    for reason in tuning.failed:
        console.print(f"not measured: {reason}", markup=False, highlight=False)
    console.print(f"layers with a choice run {tuning.gain:.2f}x as fast; written to {path}")


def show_names(names: Mapping[str, str | None], *, as_json: bool, title: str) -> None:
    """Print names with a line of help each."""
    if as_json:
        show_json(dict(names))
        return
    table = _table(title, ("name", "what it is") if any(names.values()) else ("name",))
    for name, text in names.items():
        cells = (name, escape(text or "")) if any(names.values()) else (name,)
        table.add_row(*cells)
    Console().print(table)


def show_entries(entries: Sequence[EntryHelp], *, as_json: bool) -> None:
    """Print registry entries with their options."""
    if as_json:
        show_json(entries)
        return
    console = Console()
    for entry in entries:
        console.print(f"[bold]{entry.name}[/] ({entry.kind})")
        console.print(entry.help, markup=False, highlight=False)
        table = _table("", ("option", "accepts", "default", "meaning"))
        for name, option in entry.options.items():
            default = "required" if name in entry.required else _short(option.get("default"))
            meaning = escape(str(option.get("description", "")))
            table.add_row(name, escape(_accepts(option)), escape(default), meaning)
        console.print(table)


def show_entries_of_store(store: Store, *, as_json: bool) -> None:
    """Print the finished stages of a store."""
    entries = sorted(store.entries(), key=store.last_used, reverse=True)
    if as_json:
        show_json([{"key": e.key, "stage": e.parts.stage, "bytes": e.size_bytes} for e in entries])
        return
    table = _table(str(store.root), ("key", "stage", "MiB", "seconds", "last used"))
    for entry in entries:
        used = datetime.datetime.fromtimestamp(store.last_used(entry)).isoformat(" ", "minutes")
        table.add_row(
            entry.key[:12],
            entry.parts.stage,
            f"{entry.size_bytes / 2**20:.2f}",
            f"{entry.duration_s:.1f}",
            used,
        )
    Console().print(table)


def show_explanation(explanation: Explanation) -> None:
    """Print what a key was made from and where it differs from another."""
    entry, other = explanation.entry, explanation.other
    console = Console()
    console.print(f"[bold]{entry.key}[/] {entry.parts.stage}, made {entry.created}")
    if other is None:
        console.print("no other entry of this stage to compare with")
        return
    table = _table(f"against {other.key}", ("part", "here", "there"))
    for row in explanation.differences:
        table.add_row(row.name, escape(_short(row.this)), escape(_short(row.other)))
    console.print(table)


def show_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Print a doctor's findings."""
    if as_json:
        show_json(checks)
        return
    table = _table("", ("", "check", "found", "remedy"))
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]no[/]"
        remedy = "" if check.ok else escape(check.remedy or "")
        table.add_row(mark, check.name, escape(check.found), remedy)
    Console().print(table)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _accepts(option: Mapping[str, Any]) -> str:
    if "enum" in option:
        return " | ".join(map(str, option["enum"]))
    if "anyOf" in option:
        return " | ".join(dict.fromkeys(_accepts(member) for member in option["anyOf"]))
    text = str(option.get("type", "value"))
    for name, sign in (
        ("minimum", ">="),
        ("exclusiveMinimum", ">"),
        ("maximum", "<="),
        ("exclusiveMaximum", "<"),
    ):
        if name in option:
            text += f" {sign} {option[name]:g}"
    return text


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 70 else f"{text[:67]}..."
