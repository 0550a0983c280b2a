"""Text as sequences of characters, each of which is predicted from those before it.

The text is cut, in order, into training part (80 %), validation part (10 %) and test part (10 %), and each part into windows of
``data.context`` characters that do not overlap; the target of a character is the next one. What does not fill a window is left
out. A token is a character; the tokens are those of the whole text, in the order of their code points.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from credit.core.config.data_files import text_paths
from credit.core.config.schema import DataConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError
from credit.core.reading import read_text
from credit.data.options import TextData
from credit.data.sources.files import Arrays, Whole
from credit.data.storage import Sequences

SHARES = (0.8, 0.1, 0.1)
"""Shares of the training, validation and test parts."""

MOST_TOKENS = 2**16
"""Largest number of different characters: each has an embedding and a logit."""


def look(cfg: DataConfig) -> Whole:
    """Return the number of tokens and the sizes of the parts. The file is read for it.

    Raises:
        UserError: there is no such file, it is no text, or too short for a window in each part.
    """
    options, (codes, names) = _text(cfg)
    train, val, test = (count for _, count in _parts(options, len(codes)))
    shape, own = (options.context,), 0 if cfg.test_fraction is not None else val
    return Whole(shape, len(names), train + val, test, Sequences(), own, "tokens")


def read(cfg: DataConfig) -> Arrays:
    """Return the windows of a text.

    Raises:
        UserError: as `look`.
    """
    options, (codes, names) = _text(cfg)
    parts = [_windows(codes[start:], count, options.context) for start, count in _parts(options, len(codes))]
    (train, val, test) = parts
    x, y = (torch.cat([train[at], val[at]]) for at in (0, 1))
    return Arrays(x, y, *test, names, Sequences(), val=len(val[0]), task="tokens")


def _windows(codes: Tensor, count: int, context: int) -> tuple[Tensor, Tensor]:
    """Return the windows of a part (N, T), and the characters that follow each of theirs (N, T)."""
    size = count * context
    return codes[:size].view(count, context), codes[1 : size + 1].view(count, context)


def _parts(options: TextData, length: int) -> list[tuple[int, int]]:
    """Return by part the place of its first character, and its number of windows."""
    parts, start = [], 0
    for share in SHARES:
        end = start + int(share * length)
        parts.append((start, (end - start - 1) // options.context))
        start = end
    if min(count for _, count in parts) < 1:
        raise UserError(
            f"data=text data.context={options.context}: the text has {length} characters, and a tenth of it, the test part, is no "
            "longer than one window; give a longer text or a smaller data.context"
        )
    return parts


def _text(cfg: DataConfig) -> tuple[TextData, tuple[Tensor, list[str]]]:
    options = TextData(**section_values("data", cfg))
    places = text_paths(options)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(
            f"data=text{f' data.path={cfg.path}' if cfg.path else ''}: there is no file at {' or '.join(map(str, places))}; give a "
            "text in UTF-8: data.path=book.txt"
        )
    return options, _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(file: Path, changed: int) -> tuple[Tensor, list[str]]:
    """Return a text as numbers of its tokens, int64 (N,), and the tokens."""
    text = read_text(file)
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    if not len(points):
        raise UserError(f"{file} is empty; give a text of some thousand characters")
    found, codes = np.unique(points, return_inverse=True)
    if not 2 <= len(found) <= MOST_TOKENS:
        raise UserError(
            f"{file} has {len(found)} different characters: each is a token, and 2 to {MOST_TOKENS} are possible"
        )
    return torch.from_numpy(codes.astype(np.int64)), [chr(point) for point in found]
