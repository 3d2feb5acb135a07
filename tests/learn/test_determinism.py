from __future__ import annotations

import pytest
import torch

from edgekit.learn.determinism import deterministic


def state() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.get_rng_state().tolist(),
    )


def test_everything_is_as_before_afterwards() -> None:
    before = state()
    with deterministic(seed=1, num_threads=2):
        torch.rand(3)
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    assert state() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_everything_is_as_before_after_an_interruption(error: type[BaseException]) -> None:
    before = state()
    with pytest.raises(error), deterministic(seed=1, num_threads=2):
        raise error
    assert state() == before


def test_chance_depends_on_the_seed_alone() -> None:
    found = []
    for _ in range(2):
        with deterministic(seed=5, num_threads=1):
            found.append(torch.rand(4))
        torch.rand(1)
    assert torch.equal(*found)
