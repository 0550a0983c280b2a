"""Versions of the package's own components: a change of what given options compute is a new version, and renames the runs.

A run's hash takes in the version of every entry below that matches the run; a run that no entry matches keeps its name.
Imports no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Condition = Callable[[Any], bool]
"""Answers whether an option's value is one whose meaning changed; the value is None where the run does not give the option."""


@dataclass(frozen=True)
class Version:
    """One change of what some options compute.

    Attributes:
        component: name of the changed component, unique in the table; it and the number enter the hash.
        number: 2 for the first change, then 3, ...: a further change of the same component raises the number.
        reason: the change, in one line.
        when: conditions by dotted option (``rule.kind``, ``arch.kind``, ``data.kind``, ``trainer.ema``, ...), all of which
            must hold. Conditions on ``rule.*`` also see the rule of a warm start (``trainer.warm_rule``).
    """

    component: str
    number: int
    reason: str
    when: Mapping[str, Condition]

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Return whether all conditions hold for a configuration of nested mappings."""
        return all(condition(_value(config, key)) for key, condition in self.when.items())


def one_of(*values: Any) -> Condition:
    """Return the condition that an option has one of these values; None among them: or is not given."""
    return lambda value: value in values


def not_one_of(*values: Any) -> Condition:
    """Return the condition that an option has none of these values."""
    return lambda value: value not in values


def given(value: Any) -> bool:
    """Condition that an option is given and is not null."""
    return value is not None


_NO_SPIKES = (
    "cifar_resnet", "deep_mlp", "lenet5", "mlp", "perturbative_resnet", "plain_conv_bn", "suc", "timm", "vgg16",
)  # fmt: skip
_OF_MODULES = (*(kind for kind in _NO_SPIKES if kind != "timm"), "spiking_lenet", "spiking_mlp")
_NOT_ZERO_AT_ZERO = ("step", "sign", "sigmoid", "hardsigmoid", "softplus")

_FEEDBACK = ("fixed_random", "direct", "sign", "sign_fixed_random", "sign_random", "kolen_pollack")

VERSIONS: tuple[Version, ...] = (
    Version(
        "rule.equilibrium.output",
        2,
        "an activation that is the network's last op belongs to the output's state, s_L = f(a_L - beta dl/ds_L)",
        {"rule.kind": one_of("equilibrium"), "arch.kind": not_one_of(*_OF_MODULES, "timm")},
    ),
    Version(
        "engine.functional_weights",
        2,
        "F.linear, F.conv1d to 3d and convolutions that standardise their weight are layers of weights to every rule",
        {"rule.local_autograd": one_of(True), "arch.kind": not_one_of(*_OF_MODULES)},
    ),
    Version(
        "engine.matrix_products",
        2,
        "x @ weight, with a parameter as weight, is a layer of weights to every rule (networks of one's own)",
        {"arch.kind": not_one_of(*_OF_MODULES, "timm")},
    ),
    Version(
        "rule.clip_unit",
        2,
        "a unit's weight and bias updates are limited each by itself, against the pooled norm of its parameters",
        {"rule.clip_unit": not_one_of(None, "auto")},
    ),
    Version(
        "rule.lfp.clip_unit",
        2,
        "as rule.clip_unit, where rule.clip_unit=auto limits",
        {
            "rule.kind": one_of("lfp"),
            "rule.clip_unit": one_of("auto"),
            "arch.activation": one_of(*_NOT_ZERO_AT_ZERO),
        },
    ),
    Version(
        "rule.lfp.spiking",
        2,
        "normalizer=max_abs divides at each time step, after adding what comes from the future; clip_unit as above",
        {"rule.kind": one_of("lfp"), "arch.kind": not_one_of(*_NO_SPIKES)},
    ),
    Version(
        "data.parts",
        2,
        "val/ beside test/, and x_val of an .npz, are the validation part; hidden folders are no classes",
        {"data.kind": one_of("image_folder", "npz")},
    ),
    Version(
        "rule.transport.feedback",
        2,
        "feedback weights begin at the size of what they replace (rule.feedback_scale=matched) and no longer at Xavier's",
        {"rule.transport": one_of(*_FEEDBACK), "rule.feedback_scale": not_one_of("xavier")},
    ),
)
"""The changes, oldest first. An entry stays for as long as its component exists."""


def versions(config: Mapping[str, Any], table: Sequence[Version] | None = None) -> dict[str, int]:
    """Return the numbers of the entries that match a configuration, by component.

    Args:
        config: the run as nested mappings; ``trainer.warm_rule`` as the mapping of settings that its name stands for.
        table: the entries; None: `VERSIONS`.
    """
    warm = config.get("trainer", {}).get("warm_rule")
    seen = [config, *([{**config, "rule": warm}] if isinstance(warm, Mapping) else [])]
    entries = VERSIONS if table is None else table
    return {entry.component: entry.number for entry in entries if any(entry.matches(one) for one in seen)}


def _value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
