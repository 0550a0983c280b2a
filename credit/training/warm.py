"""Warm start: another rule makes a run's first steps, on the same network and with the same optimizer and schedule."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from credit.core.config.schema import RunConfig
from credit.core.config.validate import option_set
from credit.core.errors import UserError
from credit.rules.api import build, names, read
from credit.rules.base import Rule


def warm_rule(cfg: RunConfig, model: nn.Module, example: Tensor, total_steps: int, task: str) -> Rule | None:
    """Return the rule of the first ``trainer.warm_steps`` steps, with the options of its YAML file; None without a warm start.

    Paper 2 (LFP), A.6.4, trains with the gradient for 100 iterations and then with a feedback rule.

    Args:
        cfg: the run's configuration.
        model: the run's network, on its device.
        example: a batch of inputs (N, ...).
        total_steps: number of steps of the run.
        task: of the run's steps.

    Raises:
        UserError: the rule is unknown, equals the run's, cannot be used on the network or has feedback parameters; or the warm
            start leaves no step to the run's rule.
    """
    name, steps = cfg.trainer.warm_rule, cfg.trainer.warm_steps
    if name is None or steps is None:  # `credit.core.config.check` requires both or neither
        return None
    own = cfg.rule.get("name") or cfg.rule["kind"]
    _check_name(name)
    if steps >= total_steps:
        raise UserError(
            f"trainer.warm_steps={steps} of trainer.warm_rule={name} leave none of the run's {total_steps} steps to "
            f"rule={own}: train longer, choose fewer warm steps, or write rule={name} without a warm start"
        )
    settings = dict(read(name))
    if cfg.rule.get("local_autograd"):  # the network requires it, for every rule
        settings["local_autograd"] = True
    if _resolved(settings) == _resolved(cfg.rule):
        same = "" if name == own else f" (rule={own} has the same settings)"
        raise UserError(
            f"trainer.warm_rule={name} is the run's own rule{same}, so that nothing would change after {steps} steps: "
            f"choose another, for example trainer.warm_rule={_other(cfg)}, or leave it out"
        )
    trainer = cfg.trainer
    try:
        more: dict[str, Any] = {"seed": cfg.seed, "example": example, "task": task}
        rule = build(settings, model, compile=trainer.compile, precision=trainer.precision, **more)
    except UserError as error:
        raise UserError(f"the warm start, trainer.warm_rule={name}: {error}") from error
    if _learns(rule):
        raise UserError(
            f"trainer.warm_rule={name}: this rule has feedback parameters, which rule={own} would have no use for; "
            f"choose one without, for example trainer.warm_rule=bp"
        )
    return rule


def warm_notes(cfg: RunConfig, warm: Rule | None) -> list[str]:
    """Return the notes of a warm start: its rule and number of steps, and its rule's notes; empty without one."""
    if warm is None:
        return []
    begins = f"warm start: rule={warm.name} makes the first {cfg.trainer.warm_steps} steps"
    return [begins, *(f"{warm.name}, in the warm start: {note}" for note in warm.notes)]


def warm_alone(rule: Rule, warm: Rule | None) -> str | None:
    """Return why a run with a warm start cannot be trained in a replica batch; None if it can, or without a warm start."""
    if warm is None or not _learns(rule):
        return None
    return f"rule={rule.name} has feedback parameters, which do not move in a warm start, and a replica batch moves all parameters"


def _check_name(name: str) -> None:
    """Raise `UserError` with the nearest names if no rule has this name."""
    if name not in names():
        try:
            read(name)  # finds a rule of the user's own, which is registered when it is read
        except UserError as error:
            nearest = str(error).partition("; ")[2]
            raise UserError(f"trainer.warm_rule={name}: there is no rule of this name; {nearest}") from error


def _resolved(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kind and the options of a rule that decide the result: equal for two names of the same rule."""
    options = option_set("rule", str(settings["kind"]))
    given = {key: value for key, value in settings.items() if key not in ("kind", "name")}
    return {"kind": settings["kind"], **options.decisive(options.check(given))}


def _other(cfg: RunConfig) -> str:
    """Return the name of a rule other than the run's."""
    same = _resolved(read("bp") | {"local_autograd": cfg.rule.get("local_autograd", False)}) == _resolved(cfg.rule)
    return "lfp_epsilon" if same else "bp"


def _learns(rule: Rule) -> bool:
    return any(True for _ in rule.parameters())
