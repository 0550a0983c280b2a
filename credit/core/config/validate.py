"""From a plain mapping (composed by Hydra, or read back from a result) to a checked `RunConfig`; no torch.

Options are checked by their definitions (`credit.core.options`); here is what two groups together make impossible. What
needs the network, data or device is checked by `credit.training.prepare`.
"""

import re
from collections.abc import Mapping
from typing import Any

from credit.core.config.folders import rule_kind
from credit.core.config.schema import GROUPS, LENGTHS, OPEN_GROUPS, SECTIONS, RunConfig, TopConfig
from credit.core.errors import UserError, nearest
from credit.core.option_sets import OptionSet, of_kind
from credit.core.options import of_class

TAGGED = ("data", "noise", "optimizer", "schedule", "logger")
"""Groups with a class of common options, whose kinds may add their own."""


def check(mapping: Mapping[str, Any]) -> RunConfig:
    """Return the run that `mapping` describes, or raise `UserError` naming the key, the value and what to write.

    Args:
        mapping: nested plain mappings and values, keys as on the command line; ``noise`` may be a number (the rate of
            symmetric noise). Missing keys take their defaults. `RunConfig.as_dict` gives such a mapping.
    """
    given = {str(key): value for key, value in mapping.items()}
    for key in given:
        _known_key(key)
    own = _TOP.check({key: value for key, value in given.items() if key in _TOP.own})
    if isinstance(own["replicas"], int):
        _TOP.check({"seed": own["seed"] + own["replicas"] - 1})
    sections = {group: _section(group, given.get(group, {})) for group in GROUPS}
    cfg = RunConfig(**sections, **own)
    _check_lengths(cfg)
    _check_warm_start(cfg)
    _check_rates(cfg)
    return cfg


def option_set(group: str, kind: str = "") -> OptionSet:
    """Return the options of a group, of one of its kinds where it has kinds.

    Raises:
        UserError: there is no such kind.
    """
    if group == "rule":
        rule_kind(kind)
    return of_kind(group, kind) if group in (*OPEN_GROUPS, *TAGGED) else OptionSet(group, SECTIONS[group])


def values_of(cfg: RunConfig, group: str) -> dict[str, Any]:
    """Return a group's options as a mapping, without those that its choices do not read."""
    section = getattr(cfg, group)
    plain = (
        dict(section)
        if isinstance(section, dict)
        else {name: getattr(section, name) for name in of_class(type(section))}
    )
    return option_set(group, plain.get("kind", "")).read(plain)


def as_read(cfg: RunConfig) -> dict[str, Any]:
    """Return the run as plain nested values without the options that its choices do not read; `check` reads it back."""
    return {**cfg.as_dict(), **{group: values_of(cfg, group) for group in GROUPS}}


def section_values(group: str, section: Any) -> dict[str, Any]:
    """Return every option of a section of one of the kinds of `TAGGED`, checked; a component's options that it lacks included.

    Raises:
        UserError: as `check`, for a section that was made directly.
    """
    return option_set(group, section.kind).check({name: getattr(section, name) for name in of_class(type(section))})


_TOP = OptionSet("", TopConfig)


def _known_key(key: str) -> None:
    valid = (*GROUPS, *_TOP.own)
    if key in valid:
        return
    owners = [f"{section}.{key}" for section, cls in SECTIONS.items() if key in of_class(cls)]
    if owners:
        raise UserError(f"unknown key '{key}': did you mean '{owners[0]}'? Options are written group.option=value.")
    raise UserError(f"unknown key '{key}': {nearest(key, valid)}")


def _section(group: str, value: Any) -> Any:
    """Return a group's checked options: a mapping for `OPEN_GROUPS`, an instance of the kind's class for the others."""
    body = _body(group, value)
    if group == "trainer":
        body = _one_length(body)
    if group in OPEN_GROUPS:
        kind = body.get("kind")
        if not isinstance(kind, str) or not kind:
            raise UserError(
                f"{group}.kind is missing: choose one with {group}=<name>; `credit list {group}s` shows all"
            )
        label = str(body.get("name") or kind) if group == "rule" else kind
        named = {"kind": kind, **({"name": label} if group == "rule" else {})}
        options = {key: item for key, item in body.items() if key not in named}
        return named | option_set(group, kind).check(options, f"{group} '{label}'")
    fixed = option_set(group, str(body.get("kind", SECTIONS[group]().kind)) if group in TAGGED else "")
    return fixed.make(fixed.check(body))


def _body(group: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if group == "noise" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "symmetric" if value else "none", "rate": value}
    raise UserError(
        f"{group}={value!r} gives a value where the group's options belong. On the command line write "
        f"{group}=<choice>; in a file put '- override /{group}: <choice>' in its defaults list."
    )


def _one_length(body: dict[str, Any]) -> dict[str, Any]:
    """Return a trainer's options with the default length left out where the other one is given."""
    given = [name for name in LENGTHS if body.get(name) is not None]
    return {**dict.fromkeys(LENGTHS), **body} if given else body


def check_device(name: str, option: str = "trainer.device=") -> None:
    """Refuse a device, the value of an option, on which runs are not tested.

    Raises:
        UserError: neither ``auto``, the CPU nor an NVIDIA GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(
            f"{option}{name}: credit is tested on cpu and cuda, and a number that another device gets wrong would stay "
            "unnoticed; valid: auto, cpu, cuda, cuda:0 (the number of the GPU)"
        )


def _check_lengths(cfg: RunConfig) -> None:
    epochs, steps = cfg.trainer.epochs, cfg.trainer.steps
    if epochs is not None and steps is not None:
        raise UserError(
            f"trainer.epochs={epochs:g} and trainer.steps={steps} are both given: a run has one length. "
            "To count in steps write trainer.steps=1000 trainer.epochs=null"
        )
    if epochs is None and steps is None:
        raise UserError(
            "trainer.epochs and trainer.steps are both missing: write trainer.epochs=20 or trainer.steps=1000"
        )
    check_device(cfg.trainer.device)
    if not cfg.trainer.fgsm_epsilon:
        raise UserError(
            "trainer.fgsm_epsilon=[] moves no example: give sizes of the step, for example trainer.fgsm_epsilon=[0.01]"
        )


def _check_warm_start(cfg: RunConfig) -> None:
    """Refuse a warm start of which the rule or the number of steps is missing, and a stop without validation part."""
    rule, steps = cfg.trainer.warm_rule, cfg.trainer.warm_steps
    if (rule is None) != (steps is None):
        given = f"trainer.warm_rule={rule}" if steps is None else f"trainer.warm_steps={steps}"
        lacking = "for how many steps" if steps is None else "which rule makes them"
        raise UserError(
            f"{given} does not say {lacking}: write both, trainer.warm_rule=bp trainer.warm_steps=100, or none"
        )
    if cfg.trainer.stop_when != "never" and cfg.data.val_fraction == 0 and cfg.data.val_size is None:
        raise UserError(
            f"trainer.stop_when={cfg.trainer.stop_when} looks at the validation accuracy, and data.val_fraction=0 leaves none: "
            "write data.val_fraction=0.1, or trainer.stop_when=never"
        )


EPOCHS_OF_STEP = [10, 15]
"""The milestones of conf/schedule/step.yaml, which are epochs; in steps they were hardly asked for."""


def _check_rates(cfg: RunConfig) -> None:
    """Refuse settings of optimizer and schedule that do not fit each other, or the run's length."""
    if cfg.optimizer.kind in ("adam", "adamw") and len(cfg.optimizer.betas) != 2:
        raise UserError(
            f"optimizer.betas={cfg.optimizer.betas}: must be two numbers, written optimizer.betas=[0.9,0.999]"
        )
    milestones, in_steps = cfg.schedule.milestones, cfg.schedule.unit == "steps"
    if any(later <= earlier for earlier, later in zip(milestones, milestones[1:], strict=False)):
        raise UserError(f"schedule.milestones={milestones}: must be increasing {cfg.schedule.unit}")
    if cfg.schedule.kind == "step" and not milestones:
        raise UserError(
            f"schedule=step needs the {cfg.schedule.unit} at which it drops: write schedule.milestones="
            f"{'[400,800]' if in_steps else '[10,15]'}"
        )
    if in_steps and milestones == EPOCHS_OF_STEP:
        raise UserError(
            "schedule.unit=steps with schedule.milestones=[10,15], which are schedule=step's default epochs: the rate would "
            "drop at the run's 10th and 15th step. Write the steps at which it drops, such as schedule.milestones=[400,800]; "
            "[9.5,14.5] if 10 and 15 are meant"
        )
    if cfg.trainer.epochs is not None and cfg.schedule.warmup_epochs > cfg.trainer.epochs:
        raise UserError(
            f"schedule.warmup_epochs={cfg.schedule.warmup_epochs:g} is longer than the run, trainer.epochs={cfg.trainer.epochs:g}"
        )
    _check_decay(cfg)


def _check_decay(cfg: RunConfig) -> None:
    """Refuse a cosine that would end before it begins or behind the run, and a warm-up that goes down."""
    schedule, decay, epochs = cfg.schedule, cfg.schedule.decay_epochs, cfg.trainer.epochs
    if decay is not None and decay <= schedule.warmup_epochs:
        raise UserError(
            f"schedule.decay_epochs={decay:g} is counted from the run's start, and the warm-up takes {schedule.warmup_epochs:g} "
            f"epochs: the cosine would end before it begins. Write more than schedule.warmup_epochs"
        )
    if decay is not None and epochs is not None and decay > epochs:
        raise UserError(
            f"schedule.decay_epochs={decay:g} is longer than the run, trainer.epochs={epochs:g}; leave it out to end with the run"
        )
    if schedule.initial_lr > cfg.optimizer.lr:
        raise UserError(
            f"schedule.initial_lr={schedule.initial_lr:g} is above optimizer.lr={cfg.optimizer.lr:g}, to which the warm-up rises"
        )
