"""The pins are complete and are what this environment runs on."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
# What torch itself pins exactly, and only in its builds for NVIDIA GPUs.
TORCH_PINS = ("cuda-", "nvidia-", "triton")


def pins() -> dict[str, Version]:
    lines = CONSTRAINTS.read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in extras | {""}):
            yield requirement


def needed(name: str, *extras: str) -> set[str]:
    """Return the names of all distributions that installing `name[extras]` brings."""
    waiting = [(canonicalize_name(name), frozenset(extras))]
    seen = set(waiting)
    while waiting:
        for requirement in requirements(*waiting.pop()):
            found = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if found not in seen:
                seen.add(found)
                waiting.append(found)
    return {found for found, _ in seen}


def test_everything_an_installation_brings_is_pinned() -> None:
    brought = needed("edgekit", "all", "dev") - {"edgekit"}
    unpinned = {name for name in brought - pins().keys() if not name.startswith(TORCH_PINS)}
    assert unpinned == set()


def test_nothing_is_pinned_that_no_installation_brings() -> None:
    assert pins().keys() - needed("edgekit", "all", "dev") == set()


def test_this_environment_has_the_pinned_versions() -> None:
    installed = {name: Version(metadata.version(name)) for name in pins()}
    # A local part such as +cpu names a build of the same version.
    assert {name: Version(version.public) for name, version in installed.items()} == pins()


def test_torch_stays_within_the_versions_that_were_tried() -> None:
    (torch,) = (r for r in requirements("edgekit", frozenset({"torch"})) if r.name == "torch")
    assert pins()["torch"] in torch.specifier
    assert Version("2.14") not in torch.specifier
