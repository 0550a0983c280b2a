"""The runner ``trees``: gradient-boosted trees (XGBoost and LightGBM) on the data of a run, for comparison in tabular tables.

Data set, fold, limits, validation split and label noise are those of `credit-train` with the same settings. Features are not
normalized, because trees depend only on their order. The libraries' defaults are kept.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credit.core.config.schema import DataConfig, RunConfig
from credit.core.errors import UserError, nearest
from credit.runs import folder as records
from credit.runs.identity import data_label, decisive, labels, short_digest
from credit.runs.provenance import provenance
from credit.tables.options import runner_options
from credit.tables.runners.records import record, result_of

if TYPE_CHECKING:
    from torch import Tensor

    from credit.data import Data

MODELS = {
    "xgboost": ("XGBClassifier", {"verbosity": 0}),
    "lightgbm": ("LGBMClassifier", {"verbosity": -1, "deterministic": True, "force_row_wise": True}),
}
"""The classifier of each library, with settings for silence and reproducibility but none of the model."""

UNREAD = (
    "batch_size", "eval_batch_size", "drop_last", "sampler", "normalize", "augment", "crop_padding", "cutout_size",
)  # fmt: skip
"""Options of data that do not affect trees."""

START, SECONDS_PER_TREE, SECONDS_PER_VALUE = 2.0, 1e-3, 2e-8
"""Seconds on one core: to import and read, for a small tree, and in each tree for every value of the training part."""


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the folder of a fit: ``xgboost-tabular_iris-f0-s0-ab12cd34ef`` in the folder of all runs.

    The hash covers the model, its parameters, the data, the label noise and the seed, which decide the result.

    Args:
        config: the run; its network, rule, optimizer and schedule are ignored.
        options: ``model`` (xgboost or lightgbm), ``params`` (parameters of the library's scikit-learn classifier, default none),
            ``threads`` (default 1).

    Raises:
        UserError: the model or an option is unknown.
    """
    return records.runs_root() / _names(config, options)["name"]


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Check that the trees can be fitted, before data is loaded.

    Raises:
        UserError: an option or a parameter is unknown, the library is not installed, or the data set is missing.
    """
    from credit.data import describe

    _classifier(options, seed=config.seed)
    describe(_whole_at_once(config), config.noise)


def estimate(config: RunConfig, options: dict[str, Any]) -> float:
    """Return the estimated seconds of a fit on one core, by default for a hundred rounds with one tree for each class."""
    from credit.data import describe

    spec = describe(_whole_at_once(config), config.noise)
    rounds = (options.get("params") or {}).get("n_estimators", 100)
    trees = rounds * (spec.outputs if spec.outputs > 2 else 1)
    return float(START + trees * (SECONDS_PER_TREE + SECONDS_PER_VALUE * spec.train_size * math.prod(spec.shape)))


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Fit the trees and return the content of result.json; a finished result is returned without fitting.

    Args:
        config, options: as in `folder`.

    Returns:
        The entries of a training run's result, with ``last`` (``train_top1`` by the labels trained on, ``val_top1`` with a
        validation part, ``test_top1``, ``epoch``: the number of boosting rounds), ``selected_by`` last, ``best`` None, and
        ``runner``, ``model`` and ``params``. ``config.rule`` has the model's name, for summaries.

    Raises:
        UserError: as in `refuse`, or the folder is in use, or the data are corrupt.
    """
    from credit.data import load

    place = folder(config, options)
    held = records.read_result(place) if records.is_complete(place) else None
    if held is not None:
        return held
    model = _classifier(options, seed=config.seed)
    data = load(_whole_at_once(config), config.noise, seed=config.seed, device="cpu")
    names, shown = _names(config, options), _shown(config, options)

    def fit() -> dict[str, Any]:
        started = time.perf_counter()
        predict = _fitted(model, data)
        seconds = time.perf_counter() - started
        own = {
            "model": options["model"],
            "params": options.get("params") or {},
            "last": {"epoch": model.n_estimators or 100, **_scores(predict, data)},
            "data_digest": data.digest,
            "data": data.summary(),
            "provenance": _provenance(str(options["model"])),
        }
        return result_of("trees", names["name"], names["group"], shown, seconds, **own)

    return record(place, config, fit, {**names, "config": shown, "decisive": _decisive(config, options)})


def _whole_at_once(config: RunConfig) -> DataConfig:
    """Return the options of data with batches of one example and no normalization, which trees do not have."""
    return dataclasses.replace(config.data, batch_size=1, normalize="none")


def _names(config: RunConfig, options: dict[str, Any]) -> dict[str, str]:
    decides = _decisive(config, options)
    hashed = short_digest(decides)
    words = [decides["model"], data_label(config)]
    noise = labels(config.as_dict())["noise"]
    prefix = "-".join([*words, noise] if noise != "clean" else words)
    del decides["seed"]
    group = f"{prefix}-{short_digest(decides)}"
    return {"name": f"{prefix}-s{config.seed}-{hashed}", "group": group, "hash": hashed}


def _decisive(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    model = _model(options)
    whole = decisive(config)
    data = {key: value for key, value in whole["data"].items() if key not in UNREAD}
    params = options.get("params") or {}
    return {"model": model, "params": params, "data": data, "noise": whole["noise"], "seed": config.seed}


def _shown(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration for summaries, with the model in place of a rule."""
    plain = config.as_dict()
    params = options.get("params") or {}
    rule = {"kind": "trees", "name": options["model"], **params}
    return {"rule": rule, "arch": {"kind": "trees"}, **{key: plain[key] for key in ("data", "noise", "seed")}}


def _model(options: dict[str, Any]) -> str:
    own = runner_options("trees", options)
    count = own.params.get("n_estimators", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UserError(f"trees' option params.n_estimators={count}: must be a whole number in [1, inf)")
    model: str = own.model
    return model


def _classifier(options: dict[str, Any], *, seed: int) -> Any:
    from credit.core.randomness import stream_seed

    name = _model(options)
    kind, fixed = MODELS[name]
    try:
        library = import_module(name)
    except ImportError as error:
        raise UserError(
            f"{name} is not installed ({error}); it comes with the extra 'tabular': pip install 'credit[tabular]', or "
            f"make env in a checkout"
        ) from error
    make = getattr(library, kind)
    valid, params = make().get_params(), options.get("params") or {}
    for key in params:
        if key not in valid:
            raise UserError(f"trees' params.{key}: {name}'s {kind} has no such parameter; {nearest(key, valid)}")
    random_state = stream_seed(seed, "trees") % 2**31  # the libraries take 32 bits
    return make(**{**fixed, "n_jobs": options.get("threads", 1), "random_state": random_state, **params})


def _fitted(model: Any, data: "Data") -> Callable[["Tensor"], "Tensor"]:
    """Fit the model on the training part, and return a function that predicts classes (N,) for stored examples (N, ...).

    Raises:
        UserError: the training part has only one class.
    """
    import torch

    # The libraries require consecutive classes; a small training part may lack some.
    present, y = torch.unique(data.train.y, return_inverse=True)
    if len(present) < 2:
        raise UserError(f"the training part has only the class {data.names[int(present[0])]}; raise data.limit_train")
    model.fit(data.train.x.flatten(1).float().numpy(), y.numpy())

    def predict(x: "Tensor") -> "Tensor":
        with warnings.catch_warnings():
            # LightGBM names the columns by itself, and scikit-learn warns about missing names at prediction.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return present[torch.as_tensor(model.predict(x.flatten(1).float().numpy())).long()]

    return predict


def _scores(predict: Callable[["Tensor"], "Tensor"], data: "Data") -> dict[str, float]:
    scores = {}
    for name in ("train", "val", "test"):
        part = data.split(name)
        if len(part):
            scores[f"{name}_top1"] = (predict(part.x) == part.y).double().mean().item()
    if data.corrupted.any():
        answers = predict(data.train.x)[data.corrupted]
        scores["memorized"] = (answers == data.train.y[data.corrupted]).double().mean().item()
        scores["recovered"] = (answers == data.clean_y[data.corrupted]).double().mean().item()
    return scores


def _provenance(model: str) -> dict[str, Any]:
    found = provenance("cpu")
    packages = ("xgboost-cpu", "xgboost") if model == "xgboost" else (model,)  # one module, two distributions
    for package in packages:
        try:
            found["versions"][package] = version(package)
        except PackageNotFoundError:
            continue
    return found
