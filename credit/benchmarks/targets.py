"""The defaults of ``credit bench``: rules by network, and target ratios to autograd's time and memory.

A rule is written as in ``--rules``: its name, or its name and options, ``dp_adjoint+schedule=fw+passes=5``.
"""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """The largest ratios of a rule's step to autograd's; None for no target.

    Attributes:
        time: ratio of times.
        memory: ratio of peak memories.
        compiled: ratio of times if both steps are compiled; None for that of `time`.
    """

    time: float | None = None
    memory: float | None = None
    compiled: float | None = None


@dataclass(frozen=True)
class Group:
    """Rules that are measured on the same networks.

    Attributes:
        archs: names of the networks, keys of `SHAPES`.
        rules: targets by rule, as in ``--rules``.
    """

    archs: tuple[str, ...]
    rules: dict[str, Target]


SHAPES = {
    "mlp": (1, 28, 28),
    "lenet5": (3, 32, 32),
    "lenet5_sigmoid": (1, 28, 28),
    "plain_conv_bn": (3, 32, 32),
    "cifar_resnet": (3, 32, 32),
    "vgg16": (3, 32, 32),
    "perturbative_resnet": (3, 32, 32),
}
# Networks that are not a kind with its default options.
SPECS: dict[str, dict[str, Any]] = {
    "lenet5_sigmoid": {"kind": "lenet5", "variant": "untied", "activation": "sigmoid"},
    "vgg16": {"kind": "vgg16", "norm": "none"},
    "perturbative_resnet": {"kind": "perturbative_resnet", "depth": 10, "masks": 32},
}
# Small batches for slow networks, of which too few pairs could be timed otherwise.
BATCHES = {"vgg16": 32, "perturbative_resnet": 32}
FORWARD = "+schedule=fw+passes="

GROUPS = (
    Group(tuple(SHAPES), {"bp": Target(1.0)}),
    Group(
        ("mlp", "lenet5", "plain_conv_bn", "cifar_resnet"),
        {
            "lisp_raw": Target(1.0),
            "lisp_margin": Target(1.1),
            "lisp_ce": Target(1.1),
            "fa": Target(1.0),
            "dfa": Target(0.9),
        },
    ),
    Group(  # the networks of their paper
        ("mlp", "lenet5", "lenet5_sigmoid"),
        dict.fromkeys(("untied_constant", "untied_rectangle", "untied_triangle", "untied_logistic"), Target(1.0))
        | dict.fromkeys(("jam_full", "jam_positive", "jam_rectangle"), Target(1.1)),
    ),
    Group(
        ("mlp", "lenet5", "vgg16"),
        {"lfp_epsilon": Target(1.1, 1.1), "lfp_zpm": Target(1.6, 1.5), "lfp_alphabeta": Target(2.5, 1.5)},
    ),
    Group(("mlp", "lenet5", "vgg16"), {"dp": Target(1.25, compiled=1.2), "dp_adjoint": Target(1.25, compiled=1.2)}),
    Group(("mlp", "lenet5"), {f"dp_adjoint{FORWARD}5": Target(2.7)}),
    Group(("mlp", "lenet5", "vgg16"), {f"dp_adjoint{FORWARD}16": Target(7.5)}),
    Group(("mlp", "lenet5"), {"eqprop": Target(), "eqprop+phases=3": Target()}),
    Group(("mlp",), {"rec_lra": Target(1.2), "lra_e": Target(1.2), "tp": Target(5.0), "dtp": Target(5.0)}),
    Group(  # with and without threads for independent blocks
        ("perturbative_resnet",),
        {"rec_lra+inner=backprop": Target(1.3), "rec_lra+inner=backprop+workers=2": Target()},
    ),
)
TARGETS = {name: target for group in GROUPS for name, target in group.rules.items()}


def written(line: str) -> list[str]:
    """Split a line into rules at the commas outside of brackets."""
    return re.split(r",(?![^\[]*\])", line)


def parts(rule: str) -> tuple[str, dict[str, str]]:
    """Split a rule as in ``--rules`` into its name and its options, whose values are texts."""
    name, *options = rule.split("+")
    return name, {word.partition("=")[0]: word.partition("=")[2] for word in options}


def usual(arch: str) -> list[str]:
    """Return the rules that are measured on a network by default."""
    return [name for group in GROUPS if arch in group.archs for name in group.rules]
