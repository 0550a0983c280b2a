"""What a preprocessing was fitted to, as plain values for ``result.json``, and the preprocessing from them.

A whitening's matrix, which has the square of an example's size, is left out: it is fitted anew on the data.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from credit.core.errors import UserError
from credit.data.dataset import Data
from credit.data.normalize import Columnwise, Contrast, Normalizer, Pixelwise, Unchanged
from credit.data.preprocess import Centred, Preprocessing

_FIXED: dict[str, type[Contrast] | type[Unchanged]] = {"contrast": Contrast, "unchanged": Unchanged}
_SCALED: dict[str, type[Pixelwise] | type[Columnwise]] = {"pixelwise": Pixelwise, "columnwise": Columnwise}


def statistics(data: Data) -> dict[str, Any]:
    """Return the names of classes, and the fitted preprocessing as plain values.

    Args:
        data: the run's data set.

    Returns:
        ``names``; ``top``, the largest value of a stored pixel (null: rows of numbers); and ``preprocessing``: its ``kind`` with
        ``shift`` and ``scale``, of each channel or column, float32 exactly, or null for a whitening.
    """
    return {"names": list(data.names), "top": data.top, "preprocessing": _plain(data.fitted or data.normalizer)}


def restored(record: Mapping[str, Any], device: torch.device | str = "cpu") -> Normalizer | Preprocessing:
    """Return the preprocessing of a record that `statistics` made.

    Args:
        record: the entry ``preprocessing``.
        device: where it computes.

    Raises:
        UserError: the record is damaged.
    """
    kind = record.get("kind")
    try:
        shift, scale = (
            torch.tensor(record.get(key, []), dtype=torch.float32, device=device) for key in ("shift", "scale")
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"the run's preprocessing is damaged ({error})") from None
    if kind in _SCALED and shift.shape == scale.shape and len(shift):
        return _SCALED[kind](shift, scale)
    if kind in _FIXED:
        return _FIXED[kind]()
    if kind == "centred" and len(scale):
        return Centred(scale)
    raise UserError(f"the run's preprocessing is damaged: kind {kind!r} with {len(shift)} and {len(scale)} numbers")


def _plain(fitted: object) -> dict[str, Any] | None:
    for kind, cls in _SCALED.items():
        if isinstance(fitted, cls):
            return {"kind": kind, "shift": _numbers(fitted.shift), "scale": _numbers(fitted.scale)}
    for kind, fixed in _FIXED.items():
        if isinstance(fitted, fixed):
            return {"kind": kind}
    return {"kind": "centred", "scale": _numbers(fitted.scale)} if isinstance(fitted, Centred) else None


def _numbers(values: Tensor) -> list[float]:
    return list(values.flatten().tolist())
