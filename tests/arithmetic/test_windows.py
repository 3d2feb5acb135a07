from __future__ import annotations

import numpy as np
import pytest

from edgekit.arithmetic import windows as module
from edgekit.arithmetic.windows import convolve, windows


def test_windows_are_filled_beyond_the_image() -> None:
    image = np.arange(4.0).reshape(1, 1, 2, 2)
    seen = windows(image, (2, 2), padding=(1, 1, 0, 0), fill=-1.0)
    assert seen.shape == (1, 1, 2, 2, 2, 2)
    np.testing.assert_array_equal(seen[0, 0, 0, 0], [[-1, -1], [-1, 0]])


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_result_does_not_depend_on_the_bands_it_is_computed_in(
    groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(-9, 9, (2, 6, 11, 5)).astype(np.float64)
    kernels = rng.integers(-9, 9, (6, 6 // groups, 3, 3)).astype(np.float64)
    whole = convolve(image, kernels, padding=(1, 1, 1, 1), groups=groups)
    monkeypatch.setattr(module, "_BAND_BYTES", 1)
    banded = convolve(image, kernels, padding=(1, 1, 1, 1), groups=groups)
    np.testing.assert_array_equal(whole, banded)
