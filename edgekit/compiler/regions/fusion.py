"""Turn the operators of a region, which have no kernel of ours, into TVM's fused kernels.

Legalisation and fusion are TVM's own; `simplify` drops what inference does not need, `fuse` makes
kernels of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm


def simplify(module: tvm.IRModule) -> tvm.IRModule:
    """Drop what inference does not need.

    Args:
        module: As imported.

    Returns:
        The same computation in fewer operators.
    """
    import tvm
    from tvm import relax

    passes = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.DeadCodeElimination(["main"]),
    ]
    return tvm.ir.transform.Sequential(passes)(module)


def fuse(module: tvm.IRModule, llvm_target: tvm.target.Target) -> tvm.IRModule:
    """Turn operators into kernels and merge element-wise ones into their producers.

    Args:
        module: From `simplify`.
        llvm_target: What the kernels are for; constants are folded on this machine.

    Returns:
        `main` as a straight line of kernel calls, and the kernels.
    """
    import tvm
    from tvm import relax

    from edgekit.compiler.regions.ordering import legalize_map

    passes = [
        relax.transform.LegalizeOps(legalize_map()),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.DeadCodeElimination(["main"]),
    ]
    with llvm_target:
        return tvm.ir.transform.Sequential(passes)(module)
