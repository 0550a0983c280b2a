"""``credit eval``: evaluate the network of a finished run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from credit.cli.trained.request import RUN_HELP, Request, trained
from credit.core.errors import UserError

if TYPE_CHECKING:
    from credit.core.config import RunConfig
    from credit.data import Data
    from credit.training.state.loading import Trained

HELP = f"""\
usage: credit eval RUN [data=... noise=...] [--weights best|last] [--device cpu] [--config-dir DIR]

Print accuracy and loss of a finished run's network on validation and test part. Without settings these are the numbers of
result.json; with settings of data or noise the examples are others, and the preprocessing stays that of the run.

{RUN_HELP}

  credit eval lisp_margin-mlp-digits-... data=npz data.path=mine.npz"""

_KEPT = ("normalize", "preprocess", "zca_epsilon", "augment", "crop_padding", "cutout_size", "batch_size", "drop_last")
"""Options of `data` that are about training, or that the run's own preprocessing stands for."""

_SHOWN = ("loss", "bits", "rmse", "mae", "r2")
"""Measures that are printed beside the accuracy."""


def main(argv: list[str]) -> int:
    """Print the metrics and return 0.

    Args:
        argv: the arguments behind ``credit eval``.

    Raises:
        UserError: an argument is invalid, or the run or the data cannot be read.
    """
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    parser = Request("eval")
    parser.add_argument("words", nargs="*", metavar="SETTINGS")
    asked = parser.read(argv)
    for word in asked.words:
        _check_word(word)
    model = trained(asked)
    data = _data(model, asked.words) if asked.words else None
    for line in _lines(model, model.metrics(data)):
        print(line)
    return 0


def _check_word(word: str) -> None:
    key, equals, _ = word.partition("=")
    group, _, option = key.partition(".")
    if not equals or group not in ("data", "noise"):
        raise UserError(
            f"'{word}': credit eval takes one run and settings of data and noise, such as data=npz data.path=mine.npz; all else is "
            "the run's"
        )
    if group == "data" and option in _KEPT:
        raise UserError(f"'{word}': an evaluation uses the run's own preprocessing, and trains nothing; leave it out")


def _data(model: "Trained", words: Sequence[str]) -> "Data":
    """Return the data of the words, with the run's preprocessing.

    Raises:
        UserError: they cannot be read, or the network takes other examples or has other classes.
    """
    from credit.data import describe, load
    from credit.data.targets import recorded_task

    cfg = _changed(model.config, words)
    usual = type(cfg.data)()
    neutral = {name: getattr(usual, name) for name in _KEPT} | {"normalize": "none", "augment": [], "batch_size": 1}
    options = replace(cfg.data, **neutral)
    spec = describe(options, cfg.noise)
    task, outputs = recorded_task(model.result["data"])
    if (spec.shape, spec.outputs, spec.task) != (model.shape, outputs, task.name):
        raise UserError(
            f"data={options.kind} has examples of shape {spec.shape} with {spec.outputs} outputs ({spec.task}), and the run's "
            f"network takes {model.shape} with {outputs} ({task.name}): give a set of the same kind"
        )
    data = load(options, cfg.noise, seed=cfg.seed, device=next(model.parameters()).device)
    if data.names != model.classes:
        print(
            f"note: its classes are named {', '.join(data.names[:5])}, ..., the run's {', '.join(model.classes[:5])}, ...: by order"
        )
    if data.top != model.top:
        raise UserError(
            f"data={options.kind} has pixels up to {data.top}, and the run's went up to {model.top}: scale them"
        )
    data.normalizer = model.normalizer
    return data


def _changed(cfg: "RunConfig", words: Sequence[str]) -> "RunConfig":
    """Return a run's configuration with the settings of the words."""
    from credit.core.config import check
    from credit.core.config.compose import compose

    groups = {word.partition("=")[0] for word in words}
    first = [] if "data" in groups else [f"data={cfg.data.kind}"]
    composed, mapping = compose([*first, *words]).as_dict(), cfg.as_dict()
    for word in sorted(words, key=lambda one: "." in one.partition("=")[0]):  # choices of groups first
        group, _, option = word.partition("=")[0].partition(".")
        if option:
            mapping[group][option] = composed[group][option]
        else:
            mapping[group] = composed[group]
    return check(mapping)


def _lines(model: "Trained", found: Mapping[str, Any]) -> list[str]:
    row = model.result[model.weights]
    lines = [f"{model.folder.name}  {model.weights} weights, epoch {row['epoch']:g}"]
    for part in ("val", "test"):
        if f"{part}_loss" in found:
            shown = [f"{name} {found[f'{part}_{name}']:.6g}" for name in _SHOWN if f"{part}_{name}" in found]
            accuracy = [f"accuracy {found[f'{part}_top1']:.2%}"] if f"{part}_top1" in found else []
            lines.append("  ".join([f"{part:<5} {' '.join(accuracy)}".rstrip(), *shown]))
    if "memorized" in found:
        lines.append(f"wrong training labels: memorized {found['memorized']:.2%}, recovered {found['recovered']:.2%}")
    return lines
