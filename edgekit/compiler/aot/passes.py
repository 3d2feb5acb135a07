"""TVM's passes from a kernel to what LLVM's code generator takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm


def passes_of_loops() -> list[tvm.ir.transform.Pass]:
    """Return the passes for a kernel of our own: flat buffers, loops and vectors, no blocks."""
    from tvm import s_tir, tirx

    plain = tirx.transform
    return [
        plain.FlattenBuffer(),
        plain.NarrowDataType(32),
        plain.VectorizeLoop(True),
        plain.StorageRewrite(),
        plain.UnrollLoop(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        plain.CommonSubexprElim(),
        plain.VerifyMemory(),
        plain.AnnotateEntryFunc(),
    ]


def passes_of_blocks() -> list[tvm.ir.transform.Pass]:
    """Return the passes for a kernel of blocks, as TVM makes and schedules them."""
    from tvm import s_tir, tirx

    blocks, plain = s_tir.transform, tirx.transform
    return [
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.CompactBufferAllocation(),
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.AnnotateIrregularLoop(),
        blocks.LowerOpaqueBlock(),
        plain.FlattenBuffer(),
        plain.BF16ComputeLegalize(),
        plain.NarrowDataType(32),
        blocks.LoopPartition(),
        plain.VectorizeLoop(True),
        plain.StorageRewrite(),
        blocks.HoistIfThenElse(),
        plain.UnrollLoop(),
        blocks.RenormalizeSplitPattern(),
        plain.StmtSimplify(),
        plain.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        plain.CommonSubexprElim(),
        plain.FP8ComputeLegalize(),
        plain.VerifyMemory(),
        plain.AnnotateEntryFunc(),
        plain.FP8StorageLegalize(),
        plain.BF16StorageLegalize(),
    ]
