"""Wrong input is answered with its place, what was found, what was expected and a near name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import pytest

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Named, Options, default_variant, path_option, variant
from edgekit.core.schema import Where, resolve_document, resolve_struct, to_plain
from edgekit.core.yaml_file import parse_yaml


class Inner(Options, frozen=True, kw_only=True):
    """Inner options."""

    epochs: Annotated[int, Meta(ge=1, description="Passes over the data")] = 1
    lr: Annotated[float, Meta(gt=0)] = 0.1


class Reference(Options, frozen=True, kw_only=True):
    """Name a dataset."""

    named: ClassVar[Named] = Named("name", "datasets")

    name: str
    options: Annotated[Options, variant("datasets")] | None = None


class Outer(Options, frozen=True, kw_only=True):
    """Outer options."""

    ratio: Annotated[float, Meta(ge=0, lt=1, description="0.3 removes 30% of the MACs")] = 0.0
    metric: Annotated[Options, variant("metrics")] = msgspec.field(
        default_factory=default_variant("metrics", "top-1")
    )
    steps: tuple[Annotated[Options, variant("preprocess")], ...] = ()
    inner: Inner = msgspec.field(default_factory=Inner)
    path: Annotated[str, path_option()] | None = None
    size: int | float | None = None
    data: Reference | None = None
    required: str = ""

    def __post_init__(self) -> None:
        if self.required == "bad":
            raise InputError("required is bad", hint="Use good")


def read(text: str) -> Outer:
    return resolve_document(parse_yaml(text, Path("/base/recipe.yaml")), Outer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ratio: 1.5", r"recipe.yaml:1: ratio is 1.5: expected float < 1.0. Hint: 0.3 removes"),
        ("ratio: a", r"ratio is 'a': expected float"),
        ("rato: 0.5", r"recipe.yaml:1: rato: unknown option 'rato'. Hint: Did you mean 'ratio'"),
        ("inner: {epochs: 0}", r"inner.epochs is 0: expected int >= 1"),
        ("inner:\n  epoch: 1", r"recipe.yaml:2: inner.epoch: unknown option 'epoch'"),
        ("inner: 3", r"inner: found 3, expected a mapping"),
        ("metric: top1", r"unknown metric 'top1'. Hint: Did you mean 'top-1'"),
        ("metric: [1]", r"metric: found \[1\], expected the name of a metric"),
        ("metric: {top-1: {x: 1}}", r"metric 'top-1'.x: unknown option 'x'"),
        ("steps: [to-float, {normalise: {}}]", r"steps\[1\]: unknown .*'normalise'"),
        ("steps: [{to-float: {scale: -1}}]", r"steps\[0\] 'to-float'.scale is -1"),
        ("data: {options: {}}", r"data: option 'name' is missing"),
        ("data: {name: digts}", r"data.name: unknown dataset 'digts'.*'digits'"),
        ("data: {name: npz, options: {}}", r"data.options: option 'path' is missing"),
        ("required: bad", r"recipe.yaml:1: required is bad. Hint: Use good"),
        ("- 1", r"found \[1\], expected a mapping of options"),
    ],
)
def test_message_names_place_found_and_expected(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(text)


def test_variants_resolve_to_the_entry_itself() -> None:
    outer = read("steps: [to-float, {normalize: {mean: [0.5], std: [0.5]}}]\nmetric: top_5")
    assert [type(step).__name__ for step in outer.steps] == ["ToFloat", "Normalize"]
    assert type(outer.metric).__name__ == "Top5"


def test_relative_paths_start_at_the_recipe() -> None:
    assert read("path: weights/a.safetensors").path == "/base/weights/a.safetensors"


def test_named_reference_fills_its_options() -> None:
    outer = read("data: {name: digits}")
    assert outer.data is not None
    assert type(outer.data.options).__name__ == "Digits"


def test_unions_take_each_of_their_members() -> None:
    assert read("size: 3").size == 3
    assert read("size: 0.5").size == 0.5
    assert read("size: null").size is None


def test_plain_form_reads_back_to_the_same_options() -> None:
    outer = read("ratio: 0.5\nsteps: [{to-float: {scale: 2}}]\ndata: {name: digits}\nsize: 2")
    assert resolve_struct(to_plain(outer), Outer, Where("again")) == outer


def test_plain_form_replaces_paths_by_content() -> None:
    outer = read("path: a.txt")
    assert to_plain(outer, lambda path: f"content of {path}")["path"] == "content of /base/a.txt"
