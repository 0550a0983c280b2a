"""Small data files in the layouts users have, for tests."""

import io
import pickle
from pathlib import Path

import numpy as np
from PIL import Image


def arrays(count=40, shape=(6, 6, 3), classes=4, seed=0):
    """Return the members of an .npz set: `count` training and count // 2 test images."""
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (count, *shape), dtype=np.uint8),
        "y_train": np.arange(count) % classes,
        "x_test": rng.integers(0, 256, (count // 2, *shape), dtype=np.uint8),
        "y_test": np.arange(count // 2) % classes,
    }


def write_npz(path: Path, compressed=False, **members):
    """Save an .npz set; `members` replace or add to `arrays()`, None leaves one out."""
    content = {key: value for key, value in {**arrays(), **members}.items() if value is not None}
    (np.savez_compressed if compressed else np.savez)(path, **content)
    return path


def flip_byte(path: Path, at: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(bytes(content))


def old_pickle(content) -> bytes:
    """Pickle as CIFAR's files are: the old module name of NumPy's arrays."""
    return pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_image(path: Path, size=(8, 8), mode="RGB", seed=0):
    """Save random pixels (lossless where the suffix allows it) and return them."""
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
    path.write_bytes(buffer.getvalue())
    return pixels
