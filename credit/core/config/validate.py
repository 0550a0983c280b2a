"""From a plain mapping (composed by Hydra, or read back from a result) to a checked `RunConfig`; no torch.

Checked here: known keys, types, ranges, words from fixed sets, and what two values together make impossible. What needs
the chosen rule, network, data set or device is checked by `credit.training.prepare`.
"""

import math
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from credit.core.config.combinations import check_stop, check_warm_start
from credit.core.config.measures import check_measures
from credit.core.config.plugins import user_diagnostics
from credit.core.config.rates import check_rates
from credit.core.config.schema import CHOICES, GROUPS, IMAGE_KINDS, MEASURES, SECTIONS, RunConfig, option_names
from credit.core.errors import UserError, nearest

LIMITS = {
    "seed": "[0, 9007199254740992]",  # 2^53: what a number in JSON holds exactly
    "replicas": "[1, inf)",
    "data.batch_size": "[1, inf)",
    "data.limit_train": "[1, inf)",
    "data.limit_test": "[1, inf)",
    "data.val_fraction": "[0, 1)",
    "data.val_size": "[1, inf)",
    "data.test_fraction": "(0, 1)",
    "data.zca_epsilon": "(0, inf)",
    "data.split_seed": "[0, 9007199254740992]",
    "data.crop_padding": "[0, inf)",
    "data.cutout_size": "[1, inf)",
    "data.image_size": "[1, inf)",
    "data.resize": "[1, inf)",
    "data.eval_batch_size": "[1, inf)",
    "data.fold": "[0, inf)",
    "data.folds": "[2, inf)",
    "data.fold_seed": "[0, 4294967295]",  # what scikit-learn takes
    "data.dimension": "[1, inf)",
    "data.threshold": "(0, 1)",
    "data.samples": "[1, inf)",
    "data.step": "(0, inf)",
    "data.held_out": "[1, inf)",
    "noise.rate": "[0, 1)",
    "noise.seed": "[0, 9007199254740992]",
    "optimizer.lr": "(0, inf)",
    "optimizer.momentum": "[0, 1)",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.betas": "[0, 1)",
    "optimizer.eps": "(0, inf)",
    "schedule.final_lr": "[0, inf)",
    "schedule.warmup_epochs": "[0, inf)",
    "schedule.initial_lr": "[0, inf)",
    "schedule.decay_epochs": "(0, inf)",
    "schedule.milestones": "(0, inf)",
    "schedule.gamma": "(0, inf)",
    "trainer.epochs": "(0, inf)",
    "trainer.steps": "[1, inf)",
    "trainer.warm_steps": "[1, inf)",
    "trainer.eval_every": "(0, inf)",
    "trainer.ema": "[0, 1)",
    "trainer.bn_batches": "[0, inf)",
    "trainer.collapse_share": "(0, 1]",
    "trainer.collapse_after": "[0, inf)",
    "trainer.measure_every": "(0, inf)",
    "trainer.measure_first": "[0, inf)",
    "trainer.fgsm_epsilon": "(0, inf)",
    "trainer.checkpoint_every": "[1, inf)",
    "trainer.threads": "[1, inf)",
}
"""Interval of every number; a list's interval holds for each of its entries."""

SMALLEST = 1.1754943508222875e-38
"""The smallest normal number of float32, in which networks compute: what is smaller is 0 there, or nearly."""

READ_BY: dict[str, tuple[str, ...]] = {
    "data.augment": IMAGE_KINDS,
    "data.crop_padding": IMAGE_KINDS,
    "data.cutout_size": IMAGE_KINDS,
    "data.test_fraction": (*IMAGE_KINDS, "ones"),  # a table's test part is a fold
    "data.preprocess": IMAGE_KINDS,
    "data.zca_epsilon": IMAGE_KINDS,
    "data.hold": ("image_folder",),
    "data.alpha": ("image_folder",),
    "data.resize": ("image_folder",),
    "data.classes": ("image_folder",),
    "data.dimension": ("ones",),
    "data.threshold": ("ones",),
    "data.samples": ("ones",),
    "data.step": ("sign_line",),
    "data.held_out": ("sign_line",),
    "data.name": ("tabular",),
    "data.fold": ("tabular",),
    "data.folds": ("tabular",),
    "data.fold_seed": ("tabular",),
    "optimizer.momentum": ("sgd",),
    "optimizer.nesterov": ("sgd",),
    "optimizer.betas": ("adam", "adamw"),
    "optimizer.eps": ("adam", "adamw"),
    "schedule.final_lr": ("cosine", "warmup_cosine"),
    "schedule.warmup_epochs": ("warmup_cosine",),
    "schedule.initial_lr": ("warmup_cosine",),
    "schedule.decay_epochs": ("warmup_cosine",),
    "schedule.milestones": ("step",),
    "schedule.unit": ("step",),
    "schedule.gamma": ("step",),
}
"""Options that only some kinds of their group read; setting one for another kind is an error, not silence."""

_TYPE_WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def check(mapping: Mapping[str, Any]) -> RunConfig:
    """Return the run that `mapping` describes, or raise `UserError` naming the key, the value and what to write.

    Args:
        mapping: nested plain mappings and values, keys as on the command line; ``noise`` may be a number (the rate of
            symmetric noise). Missing keys take the schema's defaults. `RunConfig.as_dict` gives such a mapping.
    """
    given = {str(key): value for key, value in mapping.items()}
    for key in given:
        _known_key(key)
    seed, replicas = _convert("seed", given.get("seed", 0), int), _replicas(given.get("replicas", 1))
    _in_limits("seed", seed + (replicas - 1 if isinstance(replicas, int) else 0))
    sections = {name: _section(name, _body(name, given.get(name, {}))) for name in SECTIONS}
    cfg = RunConfig(
        rule=_open_section("rule", given),
        arch=_open_section("arch", given),
        seed=seed,
        replicas=replicas,
        rerun=_rerun(given.get("rerun", False)),
        resume=_convert("resume", given.get("resume", "same"), str),
        **sections,
    )
    _check_length(cfg)
    check_warm_start(cfg)
    check_measures(cfg.trainer)
    check_stop(cfg)
    _check_noise(cfg)
    check_rates(cfg)
    for group in ("data", "optimizer", "schedule"):
        refuse_unread(group, getattr(cfg, group))
    return cfg


def _replicas(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(
            f"replicas={_show(value)}: must be a whole number in {LIMITS['replicas']}, how many seeds to train, or auto"
        )
    count: int = _convert("replicas", value, int)
    return count


def _rerun(value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if value == "changed":
        return "changed"
    raise UserError(f"rerun={_show(value)}: must be false, true, or changed (where the code or the data changed since)")


def relevant(cfg: RunConfig) -> dict[str, Any]:
    """Return the run as plain nested values without the options its kinds do not read; `check` reads it back."""
    plain = cfg.as_dict()
    for key, kinds in READ_BY.items():
        group, option = key.split(".")
        if plain[group]["kind"] not in kinds:
            del plain[group][option]
    return plain


def _known_key(key: str) -> None:
    valid = (*GROUPS, "seed", "replicas", "rerun", "resume")
    if key in valid:
        return
    owners = [f"{section}.{key}" for section in SECTIONS if key in option_names(section)]
    if owners:
        raise UserError(f"unknown key '{key}': did you mean '{owners[0]}'? Options are written group.option=value.")
    raise UserError(f"unknown key '{key}': {nearest(key, valid)}")


def _body(group: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if group == "noise" and isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "symmetric" if value else "none", "rate": value}
    raise UserError(
        f"{group}={value!r} gives a value where the group's options belong. On the command line write "
        f"{group}=<choice>; in a file put '- override /{group}: <choice>' in its defaults list."
    )


def _open_section(group: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be known of `rule` and `arch` without their registries: a kind, and finite numbers."""
    body = {str(key): value for key, value in _body(group, given.get(group, {})).items()}
    kind = body.get("kind")
    if not isinstance(kind, str) or not kind:
        raise UserError(f"{group}.kind is missing: choose one with {group}=<name>; `credit list {group}s` shows all")
    for key, value in body.items():
        _refuse_nothing(f"{group}.{key}", value)
    return body


def _refuse_nothing(key: str, value: Any) -> None:
    """Refuse numbers that are not finite or vanish, and empty words, in lists and mappings too."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    if isinstance(value, float):
        _refuse_vanishing(key, value)
    if isinstance(value, str) and not value.strip():
        raise UserError(
            f"{key}= is empty (from a variable that is not set?): write a value, or leave the option out for its default"
        )
    children: Iterable[Any] = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for child in children:
        _refuse_nothing(key, child)


def _refuse_vanishing(key: str, value: float) -> None:
    if 0 < abs(value) < SMALLEST:
        raise UserError(
            f"{key}={value:g} is 0, or nearly, in the numbers that networks compute with (float32, from {SMALLEST:.2g}): write a "
            "larger number, or 0 where 0 is meant"
        )


def _section(group: str, body: Mapping[str, Any]) -> Any:
    valid = option_names(group)
    for key in body:
        if key not in valid:
            raise UserError(f"unknown option '{group}.{key}': {nearest(key, valid)}")
    hints = get_type_hints(SECTIONS[group])
    values = {key: _convert(f"{group}.{key}", value, hints[key]) for key, value in body.items()}
    return SECTIONS[group](**values)


def _convert(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as `hint` asks, without guessing: 3.0 is a whole number, "3" is not, true is no number."""
    if isinstance(hint, types.UnionType):
        return None if value is None else _convert(key, value, get_args(hint)[0])
    if get_origin(hint) is list:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise UserError(f"{key}={_show(value)}: must be a list, written {key}=[a,b]")
        return [_convert(key, item, get_args(hint)[0]) for item in value]
    _refuse_nothing(key, value if isinstance(value, str) else None)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        return _in_limits(key, float(value))
    if hint is int and number and math.isfinite(value) and value == int(value):
        return _in_limits(key, int(value))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and (number or isinstance(value, str)):
        return _in_choices(key, str(value))
    if hint is int and number:
        _in_limits(key, value)  # a non-finite or negative count is better told its interval
    raise UserError(f"{key}={_show(value)}: must be {_TYPE_WORDS[hint]}{_interval_words(key)}")


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str({None: "null", True: "true", False: "false"}[value])
    return repr(value)


def _interval_words(key: str) -> str:
    return f" in {LIMITS[key]}" if key in LIMITS else ""


def _in_limits(key: str, value: Any) -> Any:
    if not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number{_interval_words(key)}")
    _refuse_vanishing(key, value)
    if key not in LIMITS:
        return value
    interval = LIMITS[key]
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if not (above and below):
        raise UserError(f"{key}={value:g} is outside {interval}{_advice(key, value)}")
    return value


def _advice(key: str, value: float) -> str:
    if key == "noise.rate" and value >= 1:
        return (
            f": the rate is a fraction of the labels; 40 % is written noise=0.4{'' if value == 1 else ', not noise=40'}"
        )
    if key == "optimizer.lr" and value == 0:
        return ": a learning rate of 0 changes no weight"
    return ""


def _in_choices(key: str, value: str) -> str:
    if key in CHOICES and value not in CHOICES[key]:
        raise UserError(f"{key}={value}: {nearest(value, CHOICES[key])}")
    if key == "trainer.measure" and value not in (measures := [*MEASURES, *user_diagnostics()]):
        raise UserError(f"{key}=[{value}]: there is no diagnostic of this name; {nearest(value, measures)}")
    if key == "trainer.device" and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise UserError(f"trainer.device={value}: valid: auto, cpu, cuda, cuda:0 (the number of the GPU)")
    return value


def _check_length(cfg: RunConfig) -> None:
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


def _check_noise(cfg: RunConfig) -> None:
    if cfg.noise.kind == "none" and cfg.noise.rate > 0:
        rate = cfg.noise.rate
        raise UserError(
            f"noise=none with noise.rate={rate:g}: write noise={rate:g}, or a kind: noise=pair_flip noise.rate={rate:g}"
        )


def refuse_unread(group: str, section: Any) -> None:
    """Refuse an option that the section's kind does not read and that is not left at its default.

    Raises:
        UserError: naming the option, the kinds that have it and this kind's own options.
    """
    for key, kinds in READ_BY.items():
        owner, option = key.split(".")
        if owner != group or section.kind in kinds or getattr(section, option) == getattr(SECTIONS[group](), option):
            continue
        valid = [
            name for name in option_names(group) if section.kind in READ_BY.get(f"{group}.{name}", (section.kind,))
        ]
        valid.remove("kind")
        owners = f"{', '.join(kinds[:-1])} and {kinds[-1]} have" if len(kinds) > 1 else f"{kinds[0]} has"
        raise UserError(f"{group}={section.kind} has no option '{option}' ({owners} it): {nearest(option, valid)}")
