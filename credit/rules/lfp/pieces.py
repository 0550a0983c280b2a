"""Work in pieces: elementwise passes over parts that stay in the cache, so that no temporary of a whole layer's size is made."""

from collections.abc import Iterator

from torch import Tensor

LEAST, MOST = 1 << 13, 1 << 16


def rows_of(like: Tensor, parts: int = 8) -> int:
    """Return how many rows (along dim 0) make a piece of a tensor: about 1 / parts of it, LEAST to MOST elements."""
    elements = max(LEAST, min(MOST, like.numel() // parts))
    return max(1, elements * like.shape[0] // max(1, like.numel()))


def in_pieces(*tensors: Tensor, parts: int = 8) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of the same rows of tensors of one shape; on a GPU, where launching a piece costs more, all in one."""
    rows = rows_of(tensors[0], parts) if tensors[0].device.type == "cpu" else len(tensors[0])
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
