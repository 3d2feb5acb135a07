from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.learn.augment import augment_images
from edgekit.learn.options import Augment


def images(num: int = 40, size: int = 6) -> torch.Tensor:
    return torch.arange(num * 2 * size * size, dtype=torch.float32).reshape(num, 2, size, size)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_off_by_default() -> None:
    assert not Augment().is_active


def test_flipping_mirrors_some_images_and_leaves_others() -> None:
    x = images()
    found = augment_images(x, Augment(flip=True), generator())
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(found, x, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(found, x, strict=True)]
    assert any(mirrored)
    assert any(same)
    assert all(a != b for a, b in zip(mirrored, same, strict=True))


@given(st.integers(1, 3))
def test_shifting_moves_the_whole_image_by_at_most_that_much(shift: int) -> None:
    x = images()
    found = augment_images(x, Augment(shift=shift), generator())
    padded = torch.nn.functional.pad(x, (shift,) * 4, mode="replicate")
    crops = [
        padded[:, :, row : row + 6, column : column + 6]
        for row in range(2 * shift + 1)
        for column in range(2 * shift + 1)
    ]
    hits = torch.stack([(crop == found).flatten(1).all(1) for crop in crops])
    assert bool(hits.any(0).all())
    assert int(hits.any(1).sum()) > 1


def test_no_value_is_invented_at_the_border() -> None:
    x = torch.full((3, 1, 5, 5), -0.8)
    assert bool((augment_images(x, Augment(shift=4), generator()) == -0.8).all())


def test_chance_comes_from_the_generator_alone() -> None:
    options = Augment(shift=2, flip=True)
    first, again, other = (augment_images(images(), options, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
