"""The runner ``gates``: the factor by which a rule multiplies an error signal at an activation, as a function of z.

The factor is measured in a network: the error signal in a step of a layer with pre-activations z = -reach ... reach, divided by
that of the same step with a gate of 1. A random gate gives one draw for each z, which depends on the seed.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.runs.identity import decisive, short_digest
from credit.runs.places import runs_root
from credit.tables.options import runner_options
from credit.tables.runners.records import record, result_of

if TYPE_CHECKING:  # a table is read without importing torch
    from torch import Tensor

STEPS = 20
"""Number of values of z in an interval of length 1."""

_OPEN = {"kind": "sweep", "name": "untied_constant", "gate": "untied_constant"}
_WEIGHT = 2.0**-20  # of the head: so small that the units do not interact through the loss


def folder(config: RunConfig, options: dict[str, Any]) -> Path:
    """Return the folder, whose name is a function of the rule, the activation, the reach and the seed."""
    held = decisive(config)
    deciding = {key: held[key] for key in ("rule", "seed")} | {
        "activation": _activation(config),
        "reach": _reach(options),
    }
    return runs_root() / f"gate-{_label(config)}-{_activation(config)}-s{config.seed}-{short_digest(deciding)}"


def refuse(config: RunConfig, options: dict[str, Any]) -> None:
    """Check that the gate can be measured.

    Raises:
        UserError: the rule has no gate, or cannot be used with the activation.
    """
    _signals(config, dict(config.rule), _places(_reach(options)))


def estimate(config: RunConfig, options: dict[str, Any]) -> float:
    """Return the estimated seconds of a measurement."""
    return 0.1


def run(config: RunConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Measure the gate and return the content of result.json.

    Args:
        config: the cell's run; its rule, its ``arch.activation`` and its seed are used.
        options: ``reach``, the largest abs(z) (default 10).

    Returns:
        ``gate``, with ``z`` and ``factor`` (lists of equal length), ``peak`` and ``mean`` of the factor, ``from`` and ``to``, the
        smallest and largest z with a nonzero factor (None if it is 0 everywhere); and the entries of every result.

    Raises:
        UserError: as in `refuse`.
    """
    started, where = time.perf_counter(), folder(config, options)
    places = _places(_reach(options))
    factor = (_signals(config, dict(config.rule), places) / _signals(config, _OPEN, places)).tolist()
    factor = [round(value, 12) for value in factor]  # removes the rounding of a division in float64
    passing = [z for z, value in zip(places, factor, strict=True) if value]
    gate = {
        "z": places,
        "factor": factor,
        "peak": max(factor),
        "mean": sum(factor) / len(factor),
        "from": min(passing, default=None),
        "to": max(passing, default=None),
    }
    group, seconds = f"gate-{_label(config)}-{_activation(config)}", time.perf_counter() - started
    return record(where, config, lambda: result_of("gates", where.name, group, config.as_dict(), seconds, gate=gate))


def _reach(options: dict[str, Any]) -> float:
    reach: float = runner_options("gates", options).reach
    return reach


def _places(reach: float) -> list[float]:
    count = round(reach * STEPS)
    return [step / STEPS for step in range(-count, count + 1)]


def _activation(config: RunConfig) -> str:
    if "activation" not in config.arch:
        raise UserError(f"arch={config.arch['kind']} has no arch.activation to measure a gate at: write arch=mlp")
    return str(config.arch["activation"])


def _label(config: RunConfig) -> str:
    return str(config.rule.get("name", config.rule["kind"]))


def _signals(config: RunConfig, rule: dict[str, Any], places: list[float]) -> "Tensor":
    """Return the error signals (N,) at units with the given N pre-activations in one step of a rule, in float64."""
    import torch

    from credit.models import build
    from credit.rules.api import build as build_rule

    for part, plain in (("feedback_weights", "transpose"), ("normalizer", "none")):
        if rule.get(part, plain) != plain:
            raise UserError(
                f"rule.{part}={rule[part]} is more than a gate: write rule.{part}={plain} to see the gate alone"
            )
    arch = {"kind": "mlp", "widths": [len(places)], "activation": _activation(config)}
    model = build(arch, (1,), 2, seed=config.seed).double()
    weight, bias, head, _ = model.parameters()
    with torch.no_grad():
        weight.zero_()
        bias.copy_(torch.tensor(places, dtype=torch.float64))
        head[0], head[1] = _WEIGHT, 0.0
    made = build_rule(rule, model, seed=config.seed, example=torch.zeros(1, 1, dtype=torch.float64))
    made.step(torch.zeros(1, 1, dtype=torch.float64), torch.tensor([1]))
    if bias.grad is None:
        raise UserError(f"rule={_label(config)} sends nothing below an activation, so there is no gate to show")
    return bias.grad.detach().clone()
