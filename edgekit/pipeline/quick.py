"""A recipe for a bare ONNX file: compile and profile, with int8 only on the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError, near
from edgekit.core.registry import registry
from edgekit.core.yaml_file import Document
from edgekit.pipeline.recipe import Recipe, recipe_from


def recipe_for_model(
    model: Path, *, data: str | None, precision: str, overrides: Sequence[str] = ()
) -> Recipe:
    """Return the recipe that `edgekit build --model FILE` stands for.

    Args:
        model: The ONNX file.
        data: Dataset name, `.npz` file or image folder, model-ready; None for no data.
        precision: `fp32` or `int8`.
        overrides: `KEY=VALUE` texts.

    Raises:
        InputError: The file is missing, or int8 was asked for without data.
    """
    if not model.is_file():
        raise InputError(f"model file '{model}' does not exist")
    if precision == "int8" and data is None:
        raise InputError(
            "int8 needs data: ranges are never calibrated on random input",
            hint="Pass --data with a dataset name or an .npz file of model inputs",
        )
    stages: list[Any] = ["compile", "profile"]
    if precision == "int8":
        stages = [{"quantize": {"mode": "ptq"}}, *stages]
    value: dict[str, Any] = {"edgekit": 1, "model": {"onnx": str(model.resolve())}}
    if data is not None:
        value["data"] = _data(data)
    value["stages"] = stages
    return recipe_from(Document(value, {}, Path(f"{model.stem}.yaml")), overrides)


def _data(text: str) -> dict[str, Any]:
    names = registry("datasets").names()
    if text in names:
        return {"name": text}
    path = Path(text)
    if path.suffix == ".npz" and path.is_file():
        return {"name": "npz", "options": {"path": str(path.resolve())}}
    if path.is_dir():
        return {"name": "image-folder", "options": {"path": str(path.resolve())}}
    raise InputError(
        f"--data '{text}' is neither a dataset nor an .npz file nor an image folder",
        hint=near(text, names),
    )
