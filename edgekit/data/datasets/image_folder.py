"""Images in one subfolder per class."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from edgekit.core.canonical import sha256_json
from edgekit.core.errors import InputError, require_module
from edgekit.core.options import Meta, Options, path_option
from edgekit.data.fingerprint import existing, files_digest

if TYPE_CHECKING:
    from edgekit.data.contracts import Array
    from edgekit.data.samples import Samples

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm"}
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
_CHANNELS = {"L": 1, "RGB": 3}


class ImageFolder(Options, frozen=True):
    """Images below `folder/<class>/`, or below `folder/train/<class>/` and `folder/test/<class>/`.

    Input: `image`, uint8 [samples, channels, height, width]. Classes are the sorted folder names;
    a `test` folder is the official test part.
    """

    folder: Annotated[str, path_option("folder of the class folders")]
    size: Annotated[
        tuple[int, int] | None,
        Meta(description="height and width to resize to; needed when images differ in size"),
    ] = None
    mode: Annotated[Literal["RGB", "L"], Meta(description="colour, or L for grey")] = "RGB"
    max_pixels: Annotated[
        int, Meta(ge=1, description="refuse a single image with more pixels, before decoding it")
    ] = 50_000_000
    max_mib: Annotated[int, Meta(ge=1, description="refuse data sets that take more memory")] = 4096

    def __post_init__(self) -> None:
        """Refuse sizes no image can have."""
        if self.size is not None and not all(0 < side <= 16384 for side in self.size):
            raise InputError(
                "dataset 'image-folder'", found=f"size {list(self.size)}", expected="1 to 16384"
            )

    def describe(self) -> str:
        """Say in one line what this is."""
        return f"images in {self.folder}"

    def fingerprint(self) -> str:
        """Digest every image and its place."""
        train, test, _ = self._files()
        root = Path(self.folder)
        files = {path.relative_to(root).as_posix(): path for path, _ in (*train, *test)}
        return sha256_json({"images": files_digest(self, files)})

    def load(self) -> Samples:
        """Decode all images.

        Raises:
            InputError: Pillow is missing, or an image is damaged, huge or of another size.
        """
        import numpy as np

        from edgekit.data.samples import Samples

        train, test, classes = self._files()
        entries = [*train, *test]
        shape = self.size or _decode(entries[0][0], self).shape[1:]
        total = len(entries) * _CHANNELS[self.mode] * shape[0] * shape[1]
        if total > self.max_mib << 20:
            raise InputError(
                f"dataset 'image-folder': {self.folder} is too large",
                found=f"{len(entries)} images of {shape[0]}x{shape[1]}, {total >> 20} MiB",
                expected=f"at most {self.max_mib} MiB",
                hint="Set a smaller `size`, or raise max_mib",
            )
        images = np.empty((len(entries), _CHANNELS[self.mode], *shape), np.uint8)
        for row, (path, _) in enumerate(entries):
            image = _decode(path, self)
            if image.shape[1:] != tuple(shape):
                raise InputError(
                    f"dataset 'image-folder': {path}",
                    found=f"{image.shape[1]}x{image.shape[2]} pixels",
                    expected=f"{shape[0]}x{shape[1]}, as in {entries[0][0].name}",
                    hint="Set `size: [height, width]` to resize all images",
                )
            images[row] = image
        return Samples(
            inputs={"image": images},
            labels=np.array([classes.index(name) for _, name in entries], np.int64),
            label_names=classes,
            num_test=len(test) or None,
        )

    def _files(self) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]], tuple[str, ...]]:
        """List (image, class) of the training and of the test part, and the class names."""
        root = existing(Path(self.folder), "dataset 'image-folder'")
        has_parts = (root / "train").is_dir()
        train = _list_images(root / "train" if has_parts else root)
        test = _list_images(root / "test") if has_parts and (root / "test").is_dir() else []
        classes = tuple(sorted({name for _, name in (*train, *test)}))
        if not train:
            raise InputError(
                f"dataset 'image-folder': {root}",
                found="no image in a class folder",
                expected="<class>/<image>, or train/<class>/<image>",
                hint=f"Known image types: {' '.join(sorted(_SUFFIXES))}",
            )
        return train, test, classes


def _list_images(root: Path) -> list[tuple[Path, str]]:
    return [
        (path, folder.name)
        for folder in sorted(root.iterdir())
        if folder.is_dir()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and path.is_file()
    ]


def _decode(path: Path, options: ImageFolder) -> Array:
    """Decode one image into uint8 [channels, height, width]; its header is checked first."""
    import numpy as np

    pil = require_module("PIL.Image", "data")
    doing = f"dataset 'image-folder': reading {path}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about large images: refused below
            image = pil.open(path, formats=_FORMATS)
        with image:
            if image.width * image.height > options.max_pixels:
                raise InputError(
                    doing,
                    found=f"{image.width}x{image.height} pixels",
                    expected=f"at most {options.max_pixels} in all",
                    hint="Raise max_pixels if you trust the image",
                )
            pixels = image.convert(options.mode)
            if options.size is not None:
                height, width = options.size
                pixels = pixels.resize((width, height), pil.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise InputError(doing, found=f"a damaged or hostile image ({error})") from error
    array = np.asarray(pixels, np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
