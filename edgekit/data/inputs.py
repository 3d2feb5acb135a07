"""Which input a preprocessing step changes, and what it may expect of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, near

if TYPE_CHECKING:
    from edgekit.data.contracts import Array


def choose_input(inputs: Mapping[str, Array], name: str | None, step: str) -> str:
    """Give the input a step works on: the named one, or the only one.

    Raises:
        InputError: there is no such input, or several and none is named.
    """
    if name is not None and name not in inputs:
        raise InputError(f"preprocess '{step}': no input '{name}'", hint=near(name, inputs))
    if name is None and len(inputs) != 1:
        raise InputError(
            f"preprocess '{step}' does not say which input to change",
            found=f"inputs {', '.join(inputs)}",
            hint=f"Write {step}: {{input: {next(iter(inputs), 'NAME')}}}",
        )
    return name if name is not None else next(iter(inputs))


def change_input(
    inputs: Mapping[str, Array], name: str | None, step: str, change: Callable[[Array], Array]
) -> dict[str, Array]:
    """Give the inputs with one of them replaced by `change(array)`."""
    chosen = choose_input(inputs, name, step)
    return {key: change(array) if key == chosen else array for key, array in inputs.items()}


def expect_numbers(array: Array, step: str) -> None:
    """Refuse text and other things that are not numbers.

    Raises:
        InputError: the array does not hold numbers.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"preprocess '{step}'", found=f"elements of type {array.dtype}", expected="numbers"
        )


def expect_image(array: Array, step: str) -> None:
    """Refuse anything but numbers in [batch, channels, height, width].

    Raises:
        InputError: another number of dimensions, or not numbers.
    """
    expect_numbers(array, step)
    if array.ndim != 4:
        raise InputError(
            f"preprocess '{step}'",
            found=f"shape {array.shape}",
            expected="[batch, channels, height, width]",
            hint="Put channels-first or reshape before it",
        )
