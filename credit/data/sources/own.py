"""Data sets of one's own: a function that returns its arrays, in a file ``data/<name>.py`` of a ``--config-dir`` folder.

    def mydata(*, noise: float = 0.1):
        ...
        return x_train, y_train, x_test, y_test

Arrays are NumPy's or torch's: images uint8 (N, C, H, W) or (N, H, W), or rows of numbers (N, F) of any float type; labels whole
numbers (N,), counted from 0, or numbers to predict, floats (N,) or (N, K). In place of arrays the function may return torch data
sets, ``train, test`` or ``train, val, test``, that give an example and its label by number: images uint8 (C, H, W), or floats
k / 255 as torchvision's `ToTensor` makes them, or PIL's; or rows of floats (F,). The function returns the same whenever it is
called with the same options.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
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
        counts = len(made.y_train), len(made.y_test)
        return Whole(tuple(made.x_train.shape[1:]), len(made.names), *counts, made.storage, made.val, made.task)

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


def arrays(owner: str, returned: object, names: Sequence[str] | None = None, *, val: int = 0) -> Arrays:
    """Return what a user's function returned as a set.

    Args:
        owner: for messages, ``data=mydata``.
        returned: ``(x_train, y_train, x_test, y_test)`` or data sets, see the module's description.
        names: of the classes; None: their numbers.
        val: examples of a validation part, the last ones of the training arrays.

    Raises:
        UserError: anything else; parts of different shapes, empty ones, and labels that make no classification.
    """
    if isinstance(returned, tuple | list) and len(returned) in (2, 3) and any(map(_is_set, returned)):
        return _of_sets(owner, returned)
    if not isinstance(returned, tuple | list) or len(returned) != 4:
        raise UserError(
            f"{owner}: its function returned {_kind(returned)}; it must return four arrays, x_train, y_train, x_test, y_test, or "
            "torch data sets, train, test"
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
    storage = Images() if train.dtype == torch.uint8 else Rows()
    if len({(one.dtype, one.shape[1:]) for one in y.values()}) > 1:
        kinds = ", ".join(
            f"{name} {'is ' * (name == 'y_train')}{one.dtype} {tuple(one.shape)}" for name, one in y.items()
        )
        raise UserError(f"{owner}: {kinds}: both are labels, or floats of one number of columns")
    if y["y_train"].is_floating_point():
        columns = [f"y{column}" for column in range(y["y_train"].shape[1])]
        return Arrays(train, y["y_train"], test, y["y_test"], columns, storage, val=val, task="regression")
    every = torch.cat(list(y.values()))
    check_classes(owner, every, names)
    named = list(names) if names else [str(label) for label in range(int(every.max()) + 1)]
    return Arrays(train, y["y_train"], test, y["y_test"], named, storage, val=val)


def _is_set(one: object) -> bool:
    """Return whether an object gives examples by number, and is no array or collection of them."""
    plain = isinstance(one, Tensor | np.ndarray | tuple | list | dict | str)
    return not plain and hasattr(one, "__getitem__") and hasattr(one, "__len__")


def _of_sets(owner: str, returned: Sequence[Any]) -> Arrays:
    """Return the set of two or three map-style data sets: training, validation where there are three, testing."""
    names = ("train", "test") if len(returned) == 2 else ("train", "val", "test")
    parts = []
    for name, one in zip(names, returned, strict=True):
        if not _is_set(one):
            raise UserError(
                f"{owner}: {name} is {_kind(one)}; a data set gives its examples by number: __getitem__ and __len__"
            )
        parts.append(_gathered(f"{owner}: {name}", one))
    if len({(x.dtype, x.shape[1:]) for x, _ in parts}) > 1:
        shapes = ", ".join(f"{name} {x.dtype} {tuple(x.shape[1:])}" for name, (x, _) in zip(names, parts, strict=True))
        raise UserError(f"{owner}: examples are {shapes}; all have one type and shape")
    classes = getattr(returned[0], "classes", None)
    named = (
        list(classes) if isinstance(classes, list | tuple) and all(isinstance(one, str) for one in classes) else None
    )
    (x_test, y_test), held = parts[-1], parts[:-1]
    x_train, y_train = (torch.cat([part[place] for part in held]) for place in (0, 1))
    return arrays(owner, (x_train, y_train, x_test, y_test), named, val=len(held[1][1]) if len(held) == 2 else 0)


def _gathered(what: str, held: Any) -> tuple[Tensor, Tensor]:
    """Return the examples, uint8 (N, C, H, W) or float32 (N, F), and labels of a data set, each asked for once."""
    if not len(held):
        raise UserError(f"{what} is empty; every part has examples")
    examples, labels = [], []
    for place in range(len(held)):
        item = held[place]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UserError(f"{what}[{place}] is {_kind(item)}; it must be an example and its label")
        examples.append(_example(f"{what}[{place}]", item[0]))
        labels.append(_label(f"{what}[{place}]", item[1]))
        if examples[-1].shape != examples[0].shape:
            raise UserError(
                f"{what}[{place}] is of shape {tuple(examples[-1].shape)}, the first example {tuple(examples[0].shape)}; all have "
                "one shape: resize them in the data set"
            )
    if not torch.equal(_example(what, held[0][0]), examples[0]):
        raise UserError(f"{what}[0] is another example each time it is asked for; leave random changes to data.augment")
    x = torch.stack(examples)
    return (_bytes(what, x) if x.dim() == 4 and x.is_floating_point() else x), torch.tensor(labels)


def _example(what: str, given: object) -> Tensor:
    if isinstance(given, Image.Image):
        pixels = torch.from_numpy(np.array(given if given.mode in ("L", "RGB") else given.convert("RGB")))
        return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)
    x = _tensor(what, given)
    if (x.dim() == 3 and (x.dtype == torch.uint8 or x.is_floating_point())) or (x.dim() == 1 and x.is_floating_point()):
        return x
    raise UserError(
        f"{what} is {x.dtype} of shape {tuple(x.shape)}: an example is an image, uint8 (C, H, W) or floats of 0 to 1, or a row of "
        "floats (F,)"
    )


def _label(what: str, given: Any) -> int:
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 0:
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 0:
        raise UserError(f"{what} has the label {given!r}; labels are whole numbers, counted from 0")
    return int(given)


def _bytes(what: str, x: Tensor) -> Tensor:
    """Return images of k / 255 as bytes."""
    levels = x.double() * 255
    if not (
        levels.isfinite().all()
        and levels.min() >= 0
        and levels.max() <= 255
        and (levels - levels.round()).abs().max() < 1e-3
    ):
        raise UserError(
            f"{what} has images of floats that are not k / 255, from {float(x.min()):.4g} to {float(x.max()):.4g}; images are held "
            "as bytes: leave out the data set's own normalisation, data.normalize is for it"
        )
    return levels.round().to(torch.uint8)


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
    if y.is_floating_point() and y.dim() in (1, 2) and y.numel():
        if not y.isfinite().all():
            raise UserError(f"{what} has a value that is not finite; leave the row out")
        return y.float().view(len(y), -1)
    if y.dim() != 1 or y.is_floating_point() or y.dtype == torch.bool or (len(y) and int(y.min()) < 0):
        raise UserError(
            f"{what} is {y.dtype} of shape {tuple(y.shape)}: labels are whole numbers (N,), counted from 0; "
            "numbers to predict are floats (N,) or (N, K)"
        )
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
