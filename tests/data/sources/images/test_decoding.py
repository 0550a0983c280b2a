"""Decoding of image files: every mode is converted as torchvision does, or refused by its name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from credit.core.errors import UserError
from credit.data.sources.images.decoding import decode

SIZE = (4, 4)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)


def png16(path: Path, color: int, channels: int) -> None:
    """Write a PNG of 16 bits a channel; `color` is PNG's colour type."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *SIZE, 16, color, 0, 0, 0)
    rows = (b"\0" + b"\x12\x34" * (SIZE[1] * channels)) * SIZE[0]
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def tiff16(path: Path) -> None:
    """Write an RGB TIFF of 16 bits a channel."""
    data = b"\x34\x12" * (SIZE[0] * SIZE[1] * 3)
    short, long = 3, 4
    tags = [(256, short, 1, 4), (257, short, 1, 4), (258, short, 3, 134), (259, short, 1, 1), (262, short, 1, 2)]
    tags += [(273, long, 1, 140), (277, short, 1, 3), (278, short, 1, 4), (279, long, 1, len(data)), (284, short, 1, 1)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    path.write_bytes((head + body).ljust(134, b"\0") + struct.pack("<HHH", 16, 16, 16) + data)


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def frames() -> list[Image.Image]:
    return [Image.fromarray(PIXELS[..., :3]), Image.fromarray(PIXELS[::-1, :, :3].copy())]


UNFIT = {
    "grey of 16 bits, PNG": ("a.png", lambda p: png16(p, 0, 1), "16 bits a channel (mode I;16)"),
    "RGB of 16 bits, PNG": ("a.png", lambda p: png16(p, 2, 3), "16 bits a channel (mode RGB)"),
    "grey and alpha of 16 bits, PNG": ("a.png", lambda p: png16(p, 4, 2), "16 bits a channel"),
    "RGBA of 16 bits, PNG": ("a.png", lambda p: png16(p, 6, 4), "16 bits a channel (mode RGBA)"),
    "RGB of 16 bits, TIFF": ("a.tif", tiff16, "16 bits a channel"),
    "grey of 16 bits, TIFF": (
        "a.tif",
        lambda p: Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(p),
        "16 bits a channel (mode I;16)",
    ),
    "grey of 16 bits, PGM": ("a.pgm", lambda p: p.write_bytes(b"P5 4 4 65535\n" + bytes(32)), "bits a channel (mode I"),
    "RGB of 12 bits, PPM": ("a.ppm", lambda p: p.write_bytes(b"P6 4 4 4095\n" + bytes(96)), "12 bits a channel"),
    "integers": ("a.tif", lambda p: Image.fromarray(PIXELS[..., 0].astype(np.int32)).save(p), "(mode I)"),
    "floats": ("a.tif", lambda p: Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(p), "(mode F)"),
    "LAB": ("a.tif", lambda p: Image.new("LAB", SIZE).save(p), "mode LAB of TIFF"),
    "animated PNG": ("a.png", lambda p: frames()[0].save(p, save_all=True, append_images=frames()[1:]), "2 frames"),
    "animated WebP": ("a.webp", lambda p: frames()[0].save(p, save_all=True, append_images=frames()[1:]), "2 frames"),
    "TIFF of two pages": (
        "a.tiff",
        lambda p: frames()[0].save(p, save_all=True, append_images=frames()[1:]),
        "2 frames",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_eight_bits_of_rgb_do_not_represent_is_refused(what, tmp_path):
    name, write, words = UNFIT[what]
    write(tmp_path / name)
    with pytest.raises(UserError) as refusal:
        decode(tmp_path / name, SIZE, None)
    assert words in str(refusal.value) and str(tmp_path / name) in str(refusal.value)
    with pytest.raises(UserError):
        decode(tmp_path / name, (2, 2), 3)


FIT = {
    "one bit": ("a.png", lambda p: Image.fromarray(PIXELS[..., 0] > 99).save(p)),
    "grey": ("a.png", lambda p: Image.fromarray(PIXELS[..., 0]).save(p)),
    "four bits": ("a.pgm", lambda p: p.write_bytes(b"P5 4 4 15\n" + bytes(range(16)))),
    "palette": ("a.png", lambda p: Image.fromarray(PIXELS[..., :3]).quantize(7).save(p)),
    "CMYK": ("a.jpg", lambda p: Image.fromarray(PIXELS, "CMYK").save(p)),
    "YCbCr": ("a.tif", lambda p: Image.fromarray(PIXELS[..., :3]).convert("YCbCr").save(p)),
    "opaque alpha": ("a.png", lambda p: Image.fromarray(PIXELS | np.array([0, 0, 0, 255], np.uint8)).save(p)),
    "opaque grey and alpha": (
        "a.png",
        lambda p: Image.fromarray(PIXELS[..., :2] | np.array([0, 255], np.uint8)).save(p),
    ),
    "a camera's previews": (
        "a.jpg",
        lambda p: frames()[0].save(p, "MPO", save_all=True, append_images=frames()[1:], quality=95),
    ),
}


@pytest.mark.parametrize("what", FIT)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_other_modes_are_converted_as_torchvision_does(what, tmp_path):
    name, write = FIT[what]
    write(tmp_path / name)
    assert np.array_equal(decode(tmp_path / name, SIZE, None), np.asarray(pil_loader(str(tmp_path / name))))


def transparent() -> dict[str, Image.Image]:
    """Return images with transparent pixels in each way a PNG can store them."""
    palette = Image.fromarray(PIXELS[..., :3]).quantize(7)
    palette.info["transparency"] = 0
    colour = Image.fromarray(PIXELS[..., :3])
    colour.info["transparency"] = tuple(PIXELS[0, 0, :3].tolist())
    return {
        "RGBA": Image.fromarray(PIXELS),
        "LA": Image.fromarray(PIXELS[..., :2]),
        "P": palette,
        "RGB": colour,
    }


@pytest.mark.parametrize("mode", transparent())
def test_transparent_pixels_are_refused_or_treated_as_chosen(mode, tmp_path):
    path, image = tmp_path / "a.png", transparent()[mode]
    image.save(path, transparency=image.info.get("transparency"))
    with pytest.raises(UserError, match=rf"a\.png: has transparent pixels \(mode {mode}\).*Write data\.alpha=white or"):
        decode(path, SIZE, None)
    assert np.array_equal(decode(path, SIZE, None, "drop"), np.asarray(pil_loader(str(path))))
    stored = np.asarray(image.convert("RGBA")).astype(float)
    share = stored[..., 3:] / 255
    for ground, value in (("white", 255), ("black", 0)):
        expected = stored[..., :3] * share + value * (1 - share)
        assert np.abs(decode(path, SIZE, None, ground) - expected).max() <= 1


@pytest.mark.filterwarnings("ignore")  # Pillow's, of tags outside the file and of sizes that no image has
def test_every_damaged_image_is_named(tmp_path):
    """A file cut short or with changed bytes is decoded or refused, and never ends in another error."""
    rng = np.random.default_rng(1)
    for suffix in ("png", "jpg", "tif", "webp", "bmp", "ppm"):
        path = tmp_path / f"a.{suffix}"
        frames()[0].save(path)
        whole = path.read_bytes()
        for _ in range(20):
            content = bytearray(whole[: rng.integers(len(whole) // 2, len(whole) + 1)])
            for place in rng.integers(0, len(content), 3):
                content[place] = rng.integers(256)
            path.write_bytes(bytes(content))
            try:
                decode(path, SIZE, None)
            except UserError as error:
                assert str(path) in str(error)
