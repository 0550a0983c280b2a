"""What target propagation leaves to choose, and what of it cannot be (see `credit.rules.targets.target_propagation`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from credit.core.errors import UserError
from credit.engine.inference.blocks import hidden
from credit.engine.ops.activations import Activate
from credit.engine.plan import Plan
from credit.rules.shared import SharedOptions
from credit.rules.targets.synapses import Kind


@dataclass(frozen=True)
class TargetOptions(SharedOptions):
    """What targets and feedback leave to choose.

    Attributes:
        difference: correct each target by what feedback gets wrong at the activation itself (difference target propagation).
        first_target: where the loss's gradient makes a target: at the ``penultimate`` node (the head then learns from the loss), or
            at the ``logits`` (which need a feedback map of their own; the head learns from its target's squared distance).
        target_step: by how much of a sample's loss gradient the first target is moved, above 0.
        noise_std: standard deviation of the noise that feedback is trained with.
        feedback_loss: ``reconstruction`` of a noisy activation, or ``l_drl``, the local difference reconstruction loss.
        feedback_steps: steps of gradient descent that each map makes in one step of the rule, on fresh noise each.
        feedback_lr: learning rate of the maps; None: the optimizer's.
        synapses: the maps' weights: ``dense``, ``conv`` between feature maps, ``auto`` either by what they connect.
        loss: ``ce``, or ``half_sse``: 1/2 sum over outputs of (logit - y)^2.
    """

    difference: bool = True
    first_target: Literal["penultimate", "logits"] = "penultimate"
    target_step: float = 0.328
    noise_std: float = 0.36
    feedback_loss: Literal["reconstruction", "l_drl"] = "reconstruction"
    feedback_steps: int = 1
    feedback_lr: float | None = None
    synapses: Kind = "auto"
    loss: Literal["ce", "half_sse"] = "ce"


def refuse_numbers(chosen: TargetOptions) -> None:
    """Refuse what cannot be, whatever the network."""
    if not 0 < chosen.target_step < math.inf:
        raise UserError(
            f"rule.target_step={chosen.target_step:g} must be above 0: it is how far the first target is moved down the loss's "
            "gradient, and at 0 every target would be what is there already; write rule.target_step=0.328 (rule=tp: 10)"
        )
    if not 0 <= chosen.noise_std < math.inf:
        raise UserError(
            f"rule.noise_std={chosen.noise_std:g} must be 0 or more: it is the standard deviation of the noise that feedback is "
            "trained with; write rule.noise_std=0.36"
        )
    if chosen.feedback_loss == "l_drl" and chosen.noise_std == 0:
        raise UserError(
            "rule.noise_std=0 with rule.feedback_loss=l_drl: that loss compares what feedback makes of an activation with and "
            "without noise, and is 0 without; write rule.noise_std=0.36"
        )
    if chosen.feedback_loss == "l_drl" and not chosen.difference:
        raise UserError(
            "rule.feedback_loss=l_drl trains how feedback answers a difference and leaves open what it gives an activation itself, "
            "which rule.difference=false takes for a target: write rule.difference=true, or rule.feedback_loss=reconstruction"
        )
    if chosen.feedback_steps < 1:
        raise UserError(
            f"rule.feedback_steps={chosen.feedback_steps}: feedback that makes no step stays random; write rule.feedback_steps=1 "
            "or more"
        )
    if chosen.feedback_lr is not None and not 0 < chosen.feedback_lr < math.inf:
        raise UserError(
            f"rule.feedback_lr={chosen.feedback_lr:g} must be above 0: it is the learning rate of the feedback maps; write "
            "rule.feedback_lr=0.005, or null for the optimizer's"
        )
    if chosen.feedback_steps > 1 and chosen.feedback_lr is None:
        raise UserError(
            f"rule.feedback_steps={chosen.feedback_steps}: a step of the rule that makes several steps of gradient descent has to "
            "know their learning rate; write rule.feedback_lr=0.005 too"
        )


def refuse_network(chosen: TargetOptions, plan: Plan, nodes: Sequence[Activate], model: nn.Module, rule: str) -> None:
    """Refuse a network without activations for targets to be at; called before the plan is cut."""
    name = type(model).__name__
    if not nodes:
        inside = [op.name for op in hidden(plan)]
        why = (
            f"all of its activations ({', '.join(inside[:4])}{', ...' * (len(inside) > 4)}) stand on branches that others lead past"
            if inside
            else "it has no hidden activation that something learns below"
        )
        raise UserError(
            f"rule '{rule}' gives targets to activations that everything after them is computed from, but {name} has none: {why}. "
            "Use a chain of layers or of blocks (arch=mlp, lenet5, cifar_resnet), or rule=bp"
        )
    if len(nodes) == 1 and chosen.first_target == "penultimate":
        raise UserError(
            f"rule '{rule}' needs two activations in a chain, but {name} has '{nodes[0].name}' alone: the loss's gradient makes "
            "its target, so that no feedback map takes part and this is backprop. Write rule.first_target=logits, which gets there "
            "from the output, use a deeper network, or rule=bp"
        )


def refuse_flat(plan: Plan, model: nn.Module, rule: str, heard: Activate | None) -> None:
    """Refuse activations whose derivative is zero everywhere where a layer's loss has to pass them; called on the cut plan."""
    for op in plan.back:
        if not isinstance(op, Activate) or op.function.vjp is not None or not op.wants[0]:
            continue
        where = f"{op.args['name']} at '{op.name}' in {type(model).__name__}"
        if heard is not None and op.index > heard.index:
            raise UserError(
                f"rule '{rule}' takes the target of '{heard.name}' from the loss's gradient there, but that has to pass "
                f"{where}, whose derivative is zero everywhere; write rule.first_target=logits"
            )
        raise UserError(
            f"rule '{rule}' trains a layer by its squared distance to a target, whose derivative has to pass {where}, which is "
            "zero everywhere. Rules that train such networks: rec_lra, ste, lisp. To send discrete values between layers, as "
            "Lee et al. do, put the activation behind a smooth one (linear, tanh, sign)"
        )
