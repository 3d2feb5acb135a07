from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.data.source import Data
from edgekit.learn.tensors import as_tensor, num_batches, shuffled, to_tensors


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 5))
def test_batches_are_whole_disjoint_and_as_many_as_promised(
    num_samples: int, batch_size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = list(shuffled(num_samples, batch_size, generator))
    assert len(batches) == num_batches(num_samples, batch_size)
    assert {len(batch) for batch in batches} == {min(batch_size, num_samples)}
    seen = torch.cat(batches)
    assert len(seen.unique()) == len(seen) > num_samples - batch_size


def test_epochs_differ_and_seeds_repeat_them() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.cat(list(shuffled(100, 10, generator))) for _ in range(2))
    assert not torch.equal(first, second)
    again = torch.cat(list(shuffled(100, 10, torch.Generator().manual_seed(3))))
    assert torch.equal(first, again)


def test_inputs_come_in_the_models_order(digits: Data) -> None:
    split = to_tensors(digits.validation, ("image",))
    assert split.inputs[0].shape == (200, 1, 8, 8)
    assert split.labels.dtype is torch.int64
    inputs, labels = split.take(torch.tensor([3, 1]))
    np.testing.assert_array_equal(inputs[0].numpy(), digits.validation.inputs["image"][[3, 1]])
    assert labels.tolist() == digits.validation.labels[[3, 1]].tolist()


def test_an_input_the_data_lacks_is_refused(digits: Data) -> None:
    with pytest.raises(InputError, match=r"no input 'imag'.*'image'"):
        to_tensors(digits.validation, ("imag",))


def test_read_only_arrays_are_copied() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    as_tensor(array)[0] = 9
    assert array[0] == 0
