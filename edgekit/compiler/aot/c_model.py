"""What the C side of a model is written from."""

from __future__ import annotations

import msgspec

from edgekit.compiler.aot.step_graph import StepGraph
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec

_DTYPE_BYTES = {
    "bool": 1,
    **{f"{kind}int{bits}".lstrip("_"): bits // 8 for kind in "u_" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
}


class CModel(msgspec.Struct, frozen=True, kw_only=True):
    """Hold everything the C side is written from.

    Args:
        name: Prefix of every exported symbol, a C identifier.
        inputs: Inputs with every size fixed.
        outputs: Outputs with every size fixed.
        graph: Steps and constants.
        scratch: Bytes of each scratch pointer, by kernel.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    graph: StepGraph
    scratch: dict[str, tuple[int, ...]]


def tensor_bytes(spec: TensorSpec) -> int:
    """Return the size in bytes of a tensor whose sizes are all known."""
    total = _DTYPE_BYTES[spec.dtype]
    for dim in spec.shape:
        assert dim is not None, spec
        total *= dim
    return total


def check_name(name: str) -> str:
    """Return `name` when C accepts it as the start of a symbol.

    Raises:
        InputError: It is no C identifier, or belongs to the ABI.
    """
    if not name.isascii() or not name.isidentifier() or name.startswith("ek_"):
        raise InputError(
            "naming the compiled model",
            found=f"'{name}'",
            expected="letters, digits and underscores, not starting with a digit or ek_",
        )
    return name
