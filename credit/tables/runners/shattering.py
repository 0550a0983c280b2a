"""The runner ``shattering``: the error signal at the input of an untrained network, over a grid of inputs.

The data are ``data=sign_line``, all inputs in order as one batch (a normalizer's statistics are over all of them), and the network
is the cell's at its initialization (paper 2, A.4 and Fig. A.2).
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.runs.identity import decisive, labels, short_digest
from credit.runs.places import runs_root
from credit.tables.options import runner_options
from credit.tables.runners.records import record, result_of

if TYPE_CHECKING:  # a table is read without importing torch
    from credit.rules.base import Rule


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the folder, named by rule and network, with a digest of all options that decide the error signal."""
    held = decisive(config)
    deciding = {key: held[key] for key in ("rule", "arch", "seed")} | {
        "step": config.data.step,
        "precision": config.trainer.precision,
        "lags": _lags(options),
    }
    return runs_root() / f"{_label(config)}-s{config.seed}-{short_digest(deciding)}"


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Check that the error signal can be measured.

    Raises:
        UserError: the network or the rule cannot be built, or the data are not an unnormalized ``sign_line``.
    """
    _lags(options)
    if config.data.kind != "sign_line":
        raise UserError(
            f"data={config.data.kind}: shattering is measured over a grid of 1-D inputs; write data=sign_line data.step=0.02"
        )
    if config.data.normalize != "none":
        raise UserError(
            f"data.normalize={config.data.normalize}: the signal is shown over the inputs as they are; leave it out"
        )
    _made(config)


def estimate(config: RunConfig, options: dict[str, Any]) -> float:
    """Return the estimated seconds of a measurement."""
    return 1.0


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Measure the error signal and return the content of result.json.

    Args:
        config: the cell's run; its rule, network, ``data.step``, precision and seed are used.
        options: ``lags``, the number of lags of the autocorrelation (default 10).

    Returns:
        ``signal``: ``x`` and ``value`` (lists of equal length), ``rms`` of the values, ``max``, the largest absolute value,
        ``typical``, the median absolute value divided by the largest (small if few inputs have most of the error signal),
        ``autocorrelation`` at lags 1, 2, ... (None for a constant error signal), and ``lag1``, the first of these; and the
        entries of every result. Numbers that are not finite are None, and the status is then ``diverged``.

    Raises:
        UserError: as in `refuse`.
    """
    import torch

    from credit.data.sources.made.sign_line import line
    from credit.diagnostics.shattering import autocorrelation, input_signal, rms

    refuse(config, options)
    started, where = time.perf_counter(), folder(config, options)
    rule = _made(config)
    x, y = line(config.data.step)
    x = x.to(next(rule.model.parameters()).dtype)
    value = input_signal(rule, x, y).flatten()
    finite = bool(torch.isfinite(value).all())
    sizes = value.abs()
    top = float(sizes.max())
    correlation = autocorrelation(value, _lags(options)) if finite else [float("nan")] * _lags(options)
    own = {
        "status": "complete" if finite else "diverged",
        "signal": {
            "x": [round(place, 9) for place in x.flatten().tolist()],
            "value": value.tolist(),
            "rms": rms(value),
            "max": top,
            "typical": float(sizes.median()) / top if top else 0.0,
            "autocorrelation": correlation,
            "lag1": correlation[0],
        },
        "notes": list(rule.notes),
    }
    name, group, seconds = where.name, _label(config), time.perf_counter() - started
    return record(where, config, lambda: result_of("shattering", name, group, config.as_dict(), seconds, **own))


def _lags(options: dict[str, Any]) -> int:
    lags: int = runner_options("shattering", options).lags
    return lags


def _made(config: RunConfig) -> "Rule":
    """Return the cell's rule on its network at its initialization, on the CPU."""
    import torch

    from credit.models import build
    from credit.rules.api import build as build_rule

    dtype = torch.float64 if config.trainer.precision == "float64" else torch.float32
    model = build(config.arch, (1,), 2, seed=config.seed).to(dtype)
    example = torch.zeros(2, 1, dtype=dtype)
    return build_rule(config.rule, model, seed=config.seed, example=example, precision=config.trainer.precision)


def _label(config: RunConfig) -> str:
    words = labels(config.as_dict())
    return f"shattering-{words['rule']}-{words['arch']}"
