"""One operator with the arrays it is applied to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.compiler.graph.operators import Operator
    from edgekit.compiler.graph.tensors import Tensor

Kind = TypeVar("Kind", bound="Operator")


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied(Generic[Kind]):
    """Hold an operator, its operands and what is declared of them.

    Attributes:
        operator: What to compute.
        operands: Arrays of the tensors it reads.
        reads: Those tensors.
        written: The tensor it makes.
    """

    operator: Kind
    operands: Sequence[NDArray[Any]]
    reads: Sequence[Tensor]
    written: Tensor
