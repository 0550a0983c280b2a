"""Traits: networks and steps that a rule and its components can be used with, and the refusals that follow from them."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from credit.core import registry
from credit.core.errors import UserError
from credit.core.options import of_class
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op
from credit.engine.ops.pools import MaxPool
from credit.engine.ops.shapes import View
from credit.engine.ops.spiking import Lif, Readout
from credit.engine.plan import Plan

if TYPE_CHECKING:
    from credit.rules.base import Rule


@dataclass(frozen=True)
class Traits:
    """Properties of a rule, or of one of its components, as the class attribute ``traits``.

    A subclass has its parent's traits. Where it defines a method of its own, what its parent allows has to be declared again: it is
    not ``per_sample``, and refuses what components that declare nothing refuse.

    Attributes:
        per_sample: the result for a sample depends on that sample alone, and an error signal of 0 stays 0, so that samples without
            an error signal can be left out of the backward pass.
        sparse: of losses: samples can have an error signal of exactly 0 (those that satisfy a margin).
        refuses: properties of networks (keys of ``PROPERTIES``) that it cannot be used with, each with what it does that does not
            fit, as the continuation of its name: ``compares the logits of classes``.
        needs: properties of networks without which it would change nothing, or cannot work, each with what it does.
        not_compiled: why a step cannot be compiled, with what to write instead, as the continuation of its name; empty: it can.
        shares: what several processes compute on shares of a batch adds up to what one computes on the whole, so that a run can be
            trained on several devices. ``per_sample`` components need not declare it.
        largest: reads the largest value of the whole batch (``run.sharing.maximum``), which processes exchange at each step, and
            which pieces of a batch that are computed one after another do not have.
    """

    per_sample: bool = False
    sparse: bool = False
    refuses: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    not_compiled: str = ""
    shares: bool = False
    largest: bool = False


GATE = {"time_steps": "multiplies an error signal at an activation"}
ACTS = {"activations": "would change nothing: it acts at activations"}
NORMALIZER = {"time_steps": "acts on an error signal that arrives at a layer once"}
LOGITS = "compares the logits of classes"
LABELS = "compares the logit of the true class with others"
FEEDBACK = {"time_steps": "sends error signals across weights, one row an image"}

UNDECLARED: Mapping[str, Traits] = {
    "feedback_weights": Traits(refuses=FEEDBACK),
    "gate": Traits(refuses=GATE),
    "loss": Traits(refuses={"probability": LOGITS, "numbers": LOGITS, "mixtures": LABELS}),
    "normalizer": Traits(refuses=NORMALIZER),
    "feedback": Traits(shares=True),
    "relevance": Traits(shares=True),
}
"""By family, the traits of components that declare none."""


# ------------------------------------------------------------ properties of networks


@dataclass(frozen=True)
class Property:
    """A property of networks.

    Attributes:
        found: (rule) -> description of the op or output that has the property; None for a network without it.
        absent: start of the message for a network without it, completed by the network's class.
        remedy: advice for the message, beside components that fit; empty: none.
    """

    found: Callable[["Rule"], str | None]
    absent: str = ""
    remedy: str = ""


def _model(rule: "Rule") -> str:
    return type(rule.model).__name__


def _probability(rule: "Rule") -> str | None:
    binary = rule.task.method == "of_probability"
    return f"{_model(rule)} gives one number, the probability of class 1" if binary else None


def _numbers(rule: "Rule") -> str | None:
    return f"the targets of {rule.task.name} are numbers" if rule.task.targets == "numbers" else None


def _mixtures(rule: "Rule") -> str | None:
    return "the targets are shares of classes" if rule.task.method == "of_mixtures" else None


def units_over_time(plan: Plan) -> Lif | None:
    """Return the first spiking unit, in order of execution, that error signals meet; None where there is none."""
    return next((op for op in reversed(plan.back) if isinstance(op, Lif)), None)


def _time_steps(rule: "Rule") -> str | None:
    if not any(isinstance(op, Lif | Readout) for op in rule.plan.back):
        return None
    units = units_over_time(rule.plan) or next((op for op in rule.plan.ops if isinstance(op, Lif)), None)
    if units is None:
        return None
    return (
        f"{units.describe()} in {_model(rule)} is a unit over time: it has {units.args['steps']} rows an image, one a time step, "
        "and its error signal passes the surrogate derivative of every step and the membrane's past"
    )


def gated(plan: Plan) -> list[Activate]:
    """Return the activations that error signals meet, in order of execution."""
    return [op for op in plan.ops if isinstance(op, Activate) and any(op.wants)]


def _activations(rule: "Rule") -> str | None:
    return "has activations" if gated(rule.plan) else None


def summed_output(plan: Plan) -> Readout | None:
    """Return the readout whose sum over time steps the outputs are; None where they are none."""
    return next((op for op in plan.ops if isinstance(op, Readout) and op.out == plan.exit), None)


def _summed_steps(rule: "Rule") -> str | None:
    return "sums its output over time steps" if summed_output(rule.plan) else None


def counts_spikes(plan: Plan) -> bool:
    """Return whether the logits are counts of spikes: a readout's, of values that a spiking unit made."""
    makers = {op.out: op for op in plan.ops}

    def made(slot: int) -> Op | None:
        while isinstance(op := makers.get(slot), View | MaxPool):
            slot = op.inputs[0]
        return op

    last = made(plan.exit)
    return isinstance(last, Readout) and isinstance(made(last.inputs[0]), Lif)


def _spike_counts(rule: "Rule") -> str | None:
    return "counts spikes" if counts_spikes(rule.plan) else None


def _stopped(rule: "Rule") -> str | None:
    if not rule.plan.stopped:
        return None
    return (
        f"{_model(rule)} stops gradients at {rule.plan.stopped[0].describe()} (torch.no_grad() or detach in forward())"
    )


PROPERTIES: Mapping[str, Property] = {
    "probability": Property(_probability, remedy="use a network that returns logits"),
    "numbers": Property(_numbers, remedy="use data with class labels"),
    "mixtures": Property(_mixtures, remedy="leave out data.mixup and data.cutmix (task='mixtures')"),
    "time_steps": Property(_time_steps, remedy="use an LFP rule or a network without time"),
    "stopped": Property(_stopped, remedy="freeze what is below instead (requires_grad_(False))"),
    "activations": Property(
        _activations, "no error signal meets an activation in",
        "use a network that has one (a linear one with arch.activation=identity)",
    ),
    "summed_steps": Property(
        _summed_steps, "there is no sum over time steps at the output of",
        "end the network with SpikeCount (arch=spiking_lenet, spiking_mlp)",
    ),
    "spike_counts": Property(_spike_counts, "there are no counts of spikes at the output of", "use arch=spiking_lenet"),
}  # fmt: skip


# ------------------------------------------------------------ what is declared


def of_component(component: Any, family: str = "") -> Traits:
    """Return the traits of a component: its own, its parent's, or those of components that declare none."""
    traits = careful = UNDECLARED.get(family, Traits())
    if (declaring := _declaring(component, "traits")) is not None:
        traits = component.traits
        if _overridden(type(component), declaring):
            traits = replace(
                traits, per_sample=False, refuses={**careful.refuses, **traits.refuses}, shares=careful.shares
            )
    if family == "loss":
        scored = UNDECLARED["loss"].refuses
        lacking = {name: why for name, why in scored.items() if not hasattr(component, f"of_{name}")}
        traits = replace(traits, refuses={**lacking, **traits.refuses})
    return traits


def promises(component: Any, name: str) -> bool:
    """Return whether a component declares a property of its results, as the attribute ``name``: its own class, or a parent all of
    whose methods it has."""
    declaring = _declaring(component, name)
    return declaring is not None and not _overridden(type(component), declaring) and bool(getattr(component, name))


def _declaring(component: Any, name: str) -> type | None:
    return next((cls for cls in type(component).__mro__ if name in vars(cls)), None)


def _overridden(cls: type, declaring: type) -> bool:
    """Return whether a class, or one between it and the class that declares its traits, defines methods of its own."""
    below = cls.__mro__[: cls.__mro__.index(declaring)]
    return any(callable(value) or hasattr(type(value), "__get__") for one in below for name, value in vars(one).items()
               if not name.startswith("__") or name == "__call__")  # fmt: skip


def _parts(rule: "Rule") -> list[tuple[str, str, Any, Traits]]:
    """Return (family, label, component, traits) of the rule and of its components."""
    parts: list[tuple[str, str, Any, Traits]] = [("", f"rule '{rule.name}'", rule, of_component(rule))]
    chosen = of_class(type(rule.options))
    for key, component in rule.components.items():
        option, _, entry = key.partition(".")
        family, word = chosen[option].meta.family, getattr(rule.options, option)
        parts.append(
            (family, f"rule.{key}={word[entry] if entry else word}", component, of_component(component, family))
        )
    return parts


# ------------------------------------------------------------ refusals


def refuse(rule: "Rule") -> None:
    """Refuse a network, or a compiled step, that the traits of a rule or of its components do not allow.

    Raises:
        UserError: what does not fit, why, and what to write instead.
    """
    present = {name: found for name, one in PROPERTIES.items() if (found := one.found(rule))}
    for family, label, component, traits in _parts(rule):
        judged = _judged(family, rule)

        def fits(other: Any, family: str = family, judged: list[Op] = judged) -> bool:
            declared = of_component(other, family)
            properties = not declared.refuses.keys() & present and declared.needs.keys() <= present.keys()
            return properties and not any(_refusal(other, op) for op in judged)

        for name, why in traits.refuses.items():
            if name in present:
                raise UserError(
                    f"{label} {why}, but {present[name]}. {_instead(family, fits, PROPERTIES[name].remedy)}"
                )
        for name, why in traits.needs.items():
            if name not in present:
                fact = f"{PROPERTIES[name].absent} {_model(rule)}"
                raise UserError(f"{label} {why}, but {fact}. {_instead(family, fits, PROPERTIES[name].remedy)}")
        if rule.compiled and traits.not_compiled:
            raise UserError(f"{label} {traits.not_compiled}")
        for op in judged:
            if reason := _refusal(component, op):
                what = f"{op.args['name']} at '{op.name}'" if isinstance(op, Activate) else op.describe()
                raise UserError(f"{label} cannot take {what} in {_model(rule)}: {reason}. {_instead(family, fits)}")


def _refusal(component: Any, op: Op) -> str | None:
    """Return why a component cannot take an op; None where it can, or refuses none."""
    why: str | None = component.refusal(op) if hasattr(component, "refusal") else None
    return why


def refuse_shares(rule: "Rule") -> None:
    """Refuse to compute a rule's updates on shares of each batch where its traits do not allow it.

    Raises:
        UserError: naming the rule, or its component.
    """
    for family, label, _, traits in _parts(rule):
        if not (traits.shares or (family and traits.per_sample)):
            raise UserError(
                f"{label} may need the whole batch at once (it does not declare traits = credit.Traits(shares=True), or not with "
                "these options), and torchrun gives each process a share of it, trainer.accumulate a piece: leave that out, or "
                "write rule=bp"
            )


def refuse_pieces(rule: "Rule") -> None:
    """Refuse to compute a rule's batches in pieces, one after another, where its traits do not allow it.

    Raises:
        UserError: naming the rule, or its component.
    """
    refuse_shares(rule)
    normalizer = getattr(rule, "normalizer", None)  # LFP rules choose one by the network
    if normalizer is not None and of_component(normalizer, "normalizer").largest:
        raise UserError(
            f"rule '{rule.name}' divides error signals by their largest value in the batch (rule.normalizer=max_abs), which is not "
            "known before all pieces of trainer.accumulate are computed: leave that out, or write rule.normalizer=none"
        )


def _judged(family: str, rule: "Rule") -> list[Op]:
    """Return the ops that each component of a family accepts or not, by its ``refusal(op)``."""
    if family == "gate":
        return list(gated(rule.plan))
    if family == "loss" and rule.task.method == "of_probability":
        return [next(op for op in rule.plan.ops if op.out == rule.plan.exit)]
    return []


def _instead(family: str, fits: Callable[[Any], bool], remedy: str = "") -> str:
    """Return a sentence of what to write: the components of a family that fit, with their default options, and the remedy."""
    able = []
    for one in registry.registered(family) if family else ():
        made = all(option.default is not MISSING for option in of_class(one.options).values())
        if one.name != "auto" and made and fits(one.load()()):
            able.append(one.name)
    ways = [f"write rule.{family}=" + " or ".join(filter(None, (", ".join(able[:-1]), able[-1])))] if able else []
    text = ", or ".join([*ways, *([remedy] if remedy else []), *([] if family else ["write rule=bp"])])
    return text[:1].upper() + text[1:]
