from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.compiler.aot.memory_plan import ALIGNMENT, Lifetime, align, plan_memory

lifetimes = st.builds(
    lambda first, length, size: Lifetime(first=first, last=first + length, size=size),
    st.integers(0, 12),
    st.integers(0, 6),
    st.integers(0, 5000),
)
buffer_lists = st.lists(lifetimes, max_size=25)


@given(buffer_lists)
def test_buffers_alive_at_once_never_overlap(buffers: list[Lifetime]) -> None:
    plan = plan_memory(buffers)
    for i, one in enumerate(buffers):
        for j, other in enumerate(buffers[:i]):
            if one.overlaps(other):
                apart = (
                    plan.offsets[i] + one.size <= plan.offsets[j]
                    or plan.offsets[j] + other.size <= plan.offsets[i]
                )
                assert apart


@given(buffer_lists)
def test_every_buffer_is_aligned_and_inside(buffers: list[Lifetime]) -> None:
    plan = plan_memory(buffers)
    assert plan.size % ALIGNMENT == 0
    for offset, buffer in zip(plan.offsets, buffers, strict=True):
        assert offset % ALIGNMENT == 0
        assert offset + buffer.size <= plan.size


@given(buffer_lists)
def test_size_lies_between_the_bound_and_no_reuse_at_all(buffers: list[Lifetime]) -> None:
    plan = plan_memory(buffers)
    assert plan.lower_bound <= plan.size <= sum(align(buffer.size) for buffer in buffers)


@given(buffer_lists)
def test_plan_is_reproducible(buffers: list[Lifetime]) -> None:
    assert plan_memory(buffers) == plan_memory(list(buffers))


def test_a_chain_of_equal_tensors_needs_two_places() -> None:
    chain = [Lifetime(first=i, last=i + 1, size=1000) for i in range(20)]
    plan = plan_memory(chain)
    assert plan.size == plan.lower_bound == 2 * align(1000)


def test_no_buffers_need_no_workspace() -> None:
    assert plan_memory([]).size == 0
