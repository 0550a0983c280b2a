"""Decoding of one image file into RGB bytes; what 8 bits a channel cannot represent is refused."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from credit.core.errors import UserError
from credit.core.reading import reading
from credit.data.sources.digests import check_sidecar

OPAQUE = ("1", "L", "P", "RGB", "CMYK", "YCbCr")
"""Pillow's modes without alpha that are converted to RGB, as torchvision's loader does."""
TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")
"""Pillow's modes with alpha."""


def open_image(path: Path) -> ImageFile.ImageFile:
    """Open an image file, its ``.sha256`` checked where there is one; pixels are not decoded.

    Raises:
        UserError: a file that is no image.
    """
    check_sidecar(path)
    with reading(path, "a readable image", "copy it again, or take it out of the folder"):
        return Image.open(path)


def decode(path: Path, size: tuple[int, int], shorter: int | None, alpha: str = "refuse") -> np.ndarray:
    """Return one image as uint8 (H, W, 3).

    Grey images become three equal channels; palettes, CMYK and YCbCr are converted as torchvision's loader does. The
    orientation tag of a photograph is not applied, as in torchvision.

    Args:
        path: the file.
        size: (height, width) of the result, the centre of what is resized.
        shorter: pixels of the shorter side after resizing (bilinear, antialiased); None: the image must have `size`.
        alpha: treatment of transparent pixels: ``refuse``; ``drop`` (the stored colour, as torchvision's loader);
            ``white`` or ``black`` (composited over that colour). An alpha channel that is opaque everywhere is no matter.

    Raises:
        UserError: a damaged file, another size, more than 8 bits a channel, several frames or pages, a colour space that
            cannot be converted, or transparent pixels with ``alpha=refuse``; names the file and its mode.
    """
    height, width = size
    with open_image(path) as image:
        if shorter is None and (image.height, image.width) != size:
            raise UserError(
                f"{path} is {image.height} x {image.width}, the first image {height} x {width}: "
                f"give the size all shall have, for example data.image_size={min(size)}"
            )
        with reading(path, "an image that can be decoded", "copy it again, or take it out of the folder"):
            _refuse_unfit(path, image)
            if shorter is not None:
                image.draft("RGB", (2 * shorter, 2 * shorter))  # JPEG only: skip detail the resize would drop
            rgb = _composited(path, image, alpha) if image.has_transparency_data else image.convert("RGB")
    return np.asarray(rgb if shorter is None else resized(rgb, size, shorter))


def resized(image: Image.Image, size: tuple[int, int], shorter: int) -> Image.Image:
    """Return the centre, (height, width) `size`, of an image whose shorter side is resized to `shorter` (bilinear, antialiased)."""
    height, width = size
    if min(image.size) == shorter and image.size == (width, height):
        return image
    ratio = shorter / min(image.size)
    image = image.resize(
        (max(shorter, round(image.width * ratio)), max(shorter, round(image.height * ratio))), Image.Resampling.BILINEAR
    )
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _refuse_unfit(path: Path, image: ImageFile.ImageFile) -> None:
    """Refuse an image that 8-bit RGB does not represent, by its header."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's JPEG whose further pictures are previews
        raise UserError(
            f"{path}: holds {frames} frames or pages (mode {image.mode}), and an example is one image: save each one that "
            "counts as a file of its own"
        )
    bits = _bits(image)
    if bits > 8:
        raise UserError(
            f"{path}: has {bits} bits a channel (mode {image.mode}), and images are stored as 8: which of the values is white "
            "is not known. Convert the images to 8 bits first; if they use the whole range of 16 bits, "
            "Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))"
        )
    if image.mode not in (*OPAQUE, *TRANSPARENT):
        raise UserError(
            f"{path}: mode {image.mode} of {image.format} is not converted to RGB; save the image as RGB or grey of 8 bits"
        )


def _bits(image: ImageFile.ImageFile) -> int:
    """Return the file's bits a channel. Pillow's mode does not always show them: RGB of 16 bits is opened as 8."""
    if image.mode in ("I", "F"):
        return 32
    if image.mode.startswith("I;16"):
        return 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    codec = image.tile[0].args if image.tile else None
    if image.format == "PNG" and ";16" in str(codec):
        return 16
    largest = codec[1] if isinstance(codec, tuple) and len(codec) > 1 else None  # of PPM, by its header
    return largest.bit_length() if image.format == "PPM" and isinstance(largest, int) else 8


def _composited(path: Path, image: Image.Image, alpha: str) -> Image.Image:
    """Return the RGB of an image with transparent pixels, or with an alpha channel that is opaque."""
    mode, rgba = image.mode, image.convert("RGBA")
    if alpha == "drop" or rgba.getchannel("A").getextrema()[0] == 255:
        return rgba.convert("RGB")
    if alpha == "refuse":
        raise UserError(
            f"{path}: has transparent pixels (mode {mode}), which RGB has not. Write data.alpha=white or data.alpha=black to "
            "put the images on that colour, or data.alpha=drop for the stored colours without alpha, as torchvision's loader"
        )
    ground = Image.new("RGBA", rgba.size, alpha)
    ground.alpha_composite(rgba)
    return ground.convert("RGB")
