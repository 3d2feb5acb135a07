"""Choose the instruction set of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compiler.kernels.isa.base import Isa

if TYPE_CHECKING:
    from edgekit.core.target import Target


def isa_for(target: Target) -> Isa:
    """Return the instruction set whose kernels a target runs."""
    features = set(target.cpu.features)
    if target.cpu.isa == "aarch64":
        if "dotprod" in features:
            from edgekit.compiler.kernels.isa.neon_dot import NeonDot

            return NeonDot()
        from edgekit.compiler.kernels.isa.neon import Neon

        return Neon()
    if "avx512vnni" in features:
        from edgekit.compiler.kernels.isa.avx512_vnni import Avx512Vnni

        return Avx512Vnni()
    if "avx2" in features:
        from edgekit.compiler.kernels.isa.avx2 import Avx2

        return Avx2()
    return Isa()
