"""What a kernel builder hands over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import tvm


class Kernel(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold one kernel.

    The function's parameters are flat one-dimensional buffers (operands, constants, results), then
    one flat `uint8` buffer of scratch when `scratch_bytes` is not 0, then `int32` begin and end: it
    computes items begin to end of `num_items` and may be called by several threads at once with
    disjoint ranges and different scratch. Items together write every element of the results,
    padding included.

    Args:
        function: The PrimFunc, without a name yet.
        num_items: Size of the range that threads share; 1 means one thread does it all.
        scratch_bytes: Scratch each thread needs.
    """

    function: tvm.tirx.PrimFunc
    num_items: int = 1
    scratch_bytes: int = 0


class Built(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold a kernel and the constants it is called with.

    Args:
        kernel: The kernel.
        constants: Packed weights, biases and multipliers, in the order of its parameters; kernels
            of equal functions with different constants share code.
    """

    kernel: Kernel
    constants: tuple[np.ndarray, ...] = ()
