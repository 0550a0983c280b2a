"""Data sets of one's own: a function that returns its arrays, in a file ``data/<name>.py`` of a ``--config-dir`` folder.

    def mydata(*, noise: float = 0.1):
        ...
        return x_train, y_train, x_test, y_test

Arrays are NumPy's or torch's: images uint8 (N, C, H, W) or (N, H, W), or rows of numbers (N, F) of any float type; labels whole
numbers (N,), counted from 0. The function returns the same arrays whenever it is called with the same options.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from credit.core.config.schema import DataConfig
from credit.core.config.validate import section_values
from credit.core.errors import UserError
from credit.core.options import of_class
from credit.core.registry import Component
from credit.data.sources.files import CHANNELS, Arrays, Source, Whole, check_classes
from credit.data.storage import Images, Rows

_made: dict[str, tuple[Mapping[str, Any], Arrays]] = {}
"""By kind, the arrays that `look` made and `read` takes, with the options that they were made from."""


def source(component: Component) -> Source:
    """Return how the arrays of a user's function are looked at and read."""

    def look(cfg: DataConfig) -> Whole:
        made = _make(component, cfg, keep=True)
        return Whole(tuple(made.x_train.shape[1:]), len(made.names), len(made.y_train), len(made.y_test), made.storage)

    return Source(look, lambda cfg: _make(component, cfg, keep=False))


def _make(component: Component, cfg: DataConfig, *, keep: bool) -> Arrays:
    """Call the function, unless `look` did with the same options; `keep`: the arrays are asked for again."""
    values = section_values("data", cfg)
    own = {name: value for name, value in values.items() if name not in of_class(DataConfig)}
    given, made = _made.pop(component.name, (None, None))
    if made is None or given != own:
        made = arrays(f"data={component.name}", component.call(values=values))
    if keep:
        _made[component.name] = own, made
    return made


def arrays(owner: str, returned: object) -> Arrays:
    """Return what a user's function returned as a set.

    Args:
        owner: for messages, ``data=mydata``.
        returned: ``(x_train, y_train, x_test, y_test)``, see the module's description.

    Raises:
        UserError: anything else; parts of different shapes, empty ones, and labels that make no classification.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 4:
        raise UserError(
            f"{owner}: its function returned {_kind(returned)}; it must return four arrays, x_train, y_train, x_test, y_test"
        )
    parts = dict(zip(("x_train", "y_train", "x_test", "y_test"), returned, strict=True))
    x = {name: _examples(f"{owner}: {name}", parts[name]) for name in ("x_train", "x_test")}
    y = {name: _labels(f"{owner}: {name}", parts[name]) for name in ("y_train", "y_test")}
    for part in ("train", "test"):
        if not len(y[f"y_{part}"]) or len(x[f"x_{part}"]) != len(y[f"y_{part}"]):
            raise UserError(
                f"{owner}: x_{part} has {len(x[f'x_{part}'])} examples, y_{part} {len(y[f'y_{part}'])} labels; each example "
                "has one, and both parts have examples"
            )
    train, test = x["x_train"], x["x_test"]
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise UserError(
            f"{owner}: examples of x_train are {train.dtype} {tuple(train.shape[1:])}, those of x_test {test.dtype} "
            f"{tuple(test.shape[1:])}; all have one type and shape"
        )
    every = torch.cat(list(y.values()))
    check_classes(owner, every, None)
    names = [str(label) for label in range(int(every.max()) + 1)]
    return Arrays(train, y["y_train"], test, y["y_test"], names, Images() if train.dtype == torch.uint8 else Rows())


def _examples(what: str, given: object) -> Tensor:
    x = _tensor(what, given)
    if x.dtype == torch.uint8 and x.dim() in (3, 4):
        x = x if x.dim() == 4 else x.unsqueeze(1)
        if x.shape[1] not in CHANNELS and x.shape[3] in CHANNELS:
            raise UserError(f"{what} is {tuple(x.shape)}: images are (N, C, H, W), channels first; transpose them")
        return x.contiguous()
    if x.is_floating_point() and x.dim() == 2:
        if not x.isfinite().all():
            raise UserError(f"{what} has a value that is not finite; replace it, or leave the row out")
        return x.float().contiguous()
    raise UserError(
        f"{what} is {x.dtype} of shape {tuple(x.shape)}: examples are images, uint8 (N, C, H, W) of 0..255, or rows of numbers, "
        "floats (N, F)"
    )


def _labels(what: str, given: object) -> Tensor:
    y = _tensor(what, given)
    if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool or (len(y) and int(y.min()) < 0):
        raise UserError(f"{what} is {y.dtype} of shape {tuple(y.shape)}: labels are whole numbers (N,), counted from 0")
    return y.long()


def _tensor(what: str, given: object) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach().cpu()
    try:
        return torch.from_numpy(np.array(given))
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} is {_kind(given)}, which is no array of numbers: {error}") from error


def _kind(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
