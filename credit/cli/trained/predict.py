"""``credit predict``: the class of images, or of rows of an array, by the network of a finished run."""

import csv
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credit.cli.trained.request import RUN_HELP, Request, trained
from credit.core.errors import UserError
from credit.core.reading import reading

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from credit.training.state.loading import Trained

HELP = f"""\
usage: credit predict RUN FILES [--csv] [--weights best|last] [--device cpu] [--config-dir DIR]

Print one line for each example: file (with the row of an array), class and probability. A file is an image, whose shorter side is
resized to the network's and whose centre is cut out; or an array as stored before any scaling, .npy or .npz (its only array,
or x), of shape (N, C, H, W), (N, H, W, C) or (N, F).

{RUN_HELP}
  --csv                  comma-separated, with a header"""

ARRAYS = (".npy", ".npz")


def main(argv: list[str]) -> int:
    """Print the predictions and return 0.

    Args:
        argv: the arguments behind ``credit predict``.

    Raises:
        UserError: an argument is invalid, or the run or a file cannot be read.
    """
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    parser = Request("predict")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILES")
    parser.add_argument("--csv", action="store_true")
    asked = parser.read(argv)
    if not asked.files:
        raise UserError("no file is given: credit predict RUN image.png, or an array: rows.npy")
    for file in asked.files:
        if not file.is_file():
            raise UserError(f"{file}: there is no such file")
    model = trained(asked)
    rows = [row for file in asked.files for row in _predictions(model, file)]  # all, before the first line is printed
    if asked.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        columns = ("target", "value") if model.task.targets == "numbers" else ("class", "probability")
        writer.writerows([("file", "row", *columns), *rows])
    else:
        for name, row, word, probability in rows:
            print(f"{name}{'' if row == '' else f'[{row}]'}  {word}  {probability}")
    return 0


def _predictions(model: "Trained", file: Path) -> Iterator[tuple[str, Any, str, str]]:
    """Yield (file, row, class, its probability) of each example of a file; of a regression (file, row, target, its value).

    Raises:
        UserError: the network's task has no prediction that one line can show.
    """
    import torch

    from credit.tasks.classification import Classification
    from credit.tasks.reconstruction import Reconstruction
    from credit.tasks.regression import Regression

    if isinstance(model.task, Reconstruction) or not isinstance(model.task, Classification | Regression):
        raise UserError(
            f"credit predict prints a class or numbers for each example, and the task of {model.folder.name} is {model.task.name}: "
            "compute its outputs in Python, credit.load(run)(x)"
        )
    several = file.suffix.lower() in ARRAYS
    x = model.preprocess(_array(model, file) if several else _image(model, file))
    with torch.inference_mode():
        out = torch.cat([model(part) for part in x.split(model.config.data.eval_batch_size)])
    if isinstance(model.task, Regression):
        for row, values in enumerate(model.task.predict(out).tolist()):
            for name, value in zip(model.classes, values, strict=True):
                yield str(file), row if several else "", name, f"{value:.6g}"
        return
    chosen = model.task.predict(out)
    if out.shape[1] == 1:  # the probability of class 1
        sure = torch.where(chosen == 1, out[:, 0], 1 - out[:, 0])
    else:
        sure = out.double().softmax(1).gather(1, chosen[:, None])[:, 0]
    for row, (answer, probability) in enumerate(zip(chosen.tolist(), sure.tolist(), strict=True)):
        yield str(file), row if several else "", model.classes[answer], f"{probability:.4f}"


def _array(model: "Trained", file: Path) -> "Tensor":
    """Return the examples of an array's file, channels first.

    Raises:
        UserError: no array of numbers can be read from it, or it is empty.
    """
    import numpy as np
    import torch

    from credit.data.sources.npz import npz_array, npz_names

    with reading(file, "an array of numbers", "save it by np.save or np.savez"), file.open("rb") as stream:
        held = None if zipfile.is_zipfile(file) else np.load(stream, allow_pickle=False)
    if held is None:
        names = npz_names(file)
        if len(names) != 1 and "x" not in names:
            raise UserError(f"{file} has the arrays {', '.join(names) or 'none'}: which one? Save the examples as x")
        held = npz_array(file, "x" if "x" in names else names[0])
    if held.dtype.kind not in "buif" or not len(np.atleast_1d(held)):
        raise UserError(f"{file}: an array of {held.dtype} of shape {held.shape}; give examples of numbers")
    return torch.from_numpy(np.ascontiguousarray(_channels_first(held, model.shape)))


def _channels_first(held: "np.ndarray", shape: tuple[int, ...]) -> "np.ndarray":
    if held.shape == shape:  # one example
        return held[None]
    if len(shape) == 3 and held.shape[1:] != shape:
        channels, *size = shape
        if held.shape[1:] == (*size, channels):
            return held.transpose(0, 3, 1, 2)
        if channels == 1 and held.shape[1:] == tuple(size):
            return held[:, None]
    return held


def _image(model: "Trained", file: Path) -> "Tensor":
    """Return an image as one example of a run's, uint8 (1, C, H, W).

    Raises:
        UserError: it cannot be read, or the run's examples are no square images.
    """
    import numpy as np
    import torch
    from PIL import Image

    from credit.data.sources.images.decoding import decode

    if len(model.shape) != 3 or model.shape[0] not in (1, 3) or model.shape[1] != model.shape[2]:
        raise UserError(
            f"{file}: the run's examples have shape {model.shape}, which no square grey or RGB image has: give arrays, .npy "
            "or .npz"
        )
    channels, height, width = model.shape
    options = model.config.data
    pixels = decode(file, size=(height, width), shorter=options.resize or height, alpha=options.alpha)
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]
    scaled = pixels if model.top == 255 else np.round(pixels * ((model.top or 255) / 255)).astype(np.uint8)
    return torch.from_numpy(scaled.copy()).permute(2, 0, 1)[None]
