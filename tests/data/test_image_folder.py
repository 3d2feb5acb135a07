from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.data.datasets.image_folder import ImageFolder

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


Image = pytest.importorskip("PIL.Image")
Entry = Callable[..., ImageFolder]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for index, (place, value) in enumerate(
        [("train/cat", 10), ("train/dog", 200), ("train/dog", 210), ("test/cat", 20)]
    ):
        (folder / place).mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 4, 3), value, np.uint8)
        pixels[0, 0] = (255, 0, 0)
        Image.fromarray(pixels).save(folder / place / f"{index}.png")
    return folder


@pytest.fixture
def entry(resolve: Resolve) -> Entry:
    return lambda folder, **options: resolve(
        "datasets", {"image-folder": {"folder": str(folder), **options}}
    )


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG header that claims a huge image, with hardly any data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_folders_are_classes_and_test_is_the_official_part(entry: Entry, pictures: Path) -> None:
    samples = entry(pictures).load()
    assert samples.inputs["image"].shape == (4, 3, 6, 4)
    assert samples.label_names == ("cat", "dog")
    np.testing.assert_array_equal(samples.labels, [0, 1, 1, 0])
    assert samples.num_test == 1
    np.testing.assert_array_equal(samples.inputs["image"][0, :, 0, 0], [255, 0, 0])


def test_without_parts_the_class_folders_lie_directly_below(entry: Entry, pictures: Path) -> None:
    samples = entry(pictures / "train").load()
    assert len(samples) == 3
    assert samples.num_test is None


def test_grey_and_size_are_options(entry: Entry, pictures: Path) -> None:
    samples = entry(pictures, mode="L", size=[3, 5]).load()
    assert samples.inputs["image"].shape == (4, 1, 3, 5)


def test_images_of_different_size_need_a_size(entry: Entry, pictures: Path) -> None:
    Image.new("RGB", (9, 9)).save(pictures / "train" / "dog" / "9.png")
    with pytest.raises(InputError, match=r"9\.png: found 9x9 pixels, expected 6x4.*Set `size"):
        entry(pictures).load()
    assert len(entry(pictures, size=[4, 4]).load()) == 5


def test_a_huge_image_is_refused_before_decoding(entry: Entry, pictures: Path) -> None:
    path = pictures / "train" / "cat" / "bomb.png"
    path.write_bytes(png_claiming(12_000, 12_000))
    with pytest.raises(InputError, match=r"bomb\.png: found 12000x12000 pixels, expected at most"):
        entry(pictures).load()


def test_an_absurd_image_is_refused(entry: Entry, pictures: Path) -> None:
    path = pictures / "train" / "cat" / "bomb.png"
    path.write_bytes(png_claiming(2_000_000, 2_000_000))
    with pytest.raises(InputError, match=r"bomb\.png"):
        entry(pictures).load()


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_truncated_image_is_refused(entry: Entry, pictures: Path, keep: int) -> None:
    path = pictures / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"0\.png: found a damaged or hostile image"):
        entry(pictures).load()


def test_another_format_behind_an_image_name_is_refused(entry: Entry, pictures: Path) -> None:
    path = pictures / "train" / "cat" / "0.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n")
    with pytest.raises(InputError, match="damaged or hostile image"):
        entry(pictures).load()


def test_a_dataset_beyond_memory_is_refused(entry: Entry, pictures: Path) -> None:
    with pytest.raises(InputError, match=r"4 images of 1000x1000, 11 MiB, expected at most 1 MiB"):
        entry(pictures, size=[1000, 1000], max_mib=1).load()


def test_a_folder_without_images_is_refused(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no image in a class folder"):
        entry(tmp_path).fingerprint()


def test_a_missing_folder_is_named(entry: Entry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        entry(tmp_path / "nowhere").fingerprint()


def test_an_impossible_size_is_refused(entry: Entry, pictures: Path) -> None:
    with pytest.raises(InputError, match=r"found size \[0, 5\], expected 1 to 16384"):
        entry(pictures, size=[0, 5])


def test_moving_an_image_to_another_class_changes_the_fingerprint(
    entry: Entry, pictures: Path
) -> None:
    before = entry(pictures).fingerprint()
    (pictures / "train" / "dog" / "1.png").rename(pictures / "train" / "cat" / "1.png")
    assert entry(pictures).fingerprint() != before
    assert entry(pictures, size=[4, 4]).fingerprint() != entry(pictures).fingerprint()


def test_a_missing_pillow_says_how_to_get_it(
    entry: Entry, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)  # what import sees when it is missing
    with pytest.raises(InputError, match=r"'PIL' is needed.*pip install 'edgekit\[data\]'"):
        entry(pictures).load()
