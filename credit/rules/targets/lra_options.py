"""What local representation alignment leaves to choose, and what of it cannot be (see `credit.rules.targets.lra`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from credit.core.errors import UserError
from credit.rules.shared import SharedOptions


@dataclass(frozen=True)
class LraOptions(SharedOptions):
    """What local representation alignment leaves to choose.

    Attributes:
        beta: how far a target is from its layer's value, ``y = f(h - beta d)`` (Eq. 3); above 0.
        gamma: factor on the updates of the error synapses; above 0.
        skip_gap, wiring, depth: which node hears which (see `credit.rules.targets.connectivity`).
        inner: what an error does to the layers up to the next node below. ``local``: it is the signal at the pre-activation h,
            as it is, without the activation's derivative (Algorithm 2). ``backprop``: it is dL/dz of its block, and passes
                derivatives.
        error_update: how error synapses E learn. ``lra_e``: by ``gamma z_i e_j^T``, like the weights they answer to. ``paper``: by
            ``-gamma d_i e_j^T`` (Algorithm 2), and ``paper_alg1``: by ``-gamma e_i d_j^T`` (Algorithm 1; those from the output,
            which has no d, get zeros), as printed: E grows without bound. ``fixed``: not at all.
        synapses: ``dense``; ``conv``: shared among positions; ``auto`` (see `credit.rules.targets.synapses.make`).
        error_std: standard deviation of E's first weights, normal around 0; None: 1 / sqrt(units that one unit hears).
        error_lr: learning rate of E; None: the optimizer's.
        kappa: weight of each layer's discrepancy (Eq. 2); a list gives one to each node, the output's last.
        p, q: the discrepancy is ``||z - y||_p ^ q`` (Eq. 2).
        loss: ``ce`` or ``half_sse``, 1/2 sum over outputs of (logit - y)^2: what the output's error is the gradient of.
        workers: threads that independent blocks are shared among.
    """

    beta: float = 0.1
    gamma: float = 1.0
    skip_gap: Literal["auto", "blocks"] | int = "auto"
    wiring: dict[str, str | Sequence[str] | None] | None = None
    depth: int | None = None
    inner: Literal["local", "backprop"] = "local"
    error_update: Literal["lra_e", "paper", "paper_alg1", "fixed"] = "lra_e"
    synapses: Literal["auto", "dense", "conv"] = "auto"
    error_std: float | None = None
    error_lr: float | None = None
    kappa: float | Sequence[float] = 1.0
    p: float = 2.0
    q: float = 2.0
    loss: Literal["ce", "half_sse"] = "ce"
    workers: int = field(default=1, metadata={"result": False})


def refuse_numbers(chosen: LraOptions, *, compiled: bool) -> None:
    """Refuse what cannot be, whatever the network."""
    if not 0 < chosen.beta < math.inf:
        raise UserError(
            f"rule.beta={chosen.beta:g} must be above 0: targets are f(h - beta d), so that with 0 every layer is at its "
            "target and with less it is drawn away from it; LRA-E's authors use 0.1"
        )
    if chosen.gamma <= 0:
        raise UserError(
            f"rule.gamma={chosen.gamma:g} must be above 0: it scales what error synapses learn; rule.error_update=fixed leaves "
            "them as they are"
        )
    if chosen.error_update == "fixed" and (chosen.gamma != 1.0 or chosen.error_lr is not None):
        option = "gamma" if chosen.gamma != 1.0 else "error_lr"
        raise UserError(
            f"rule.{option} would change nothing: rule.error_update=fixed lets no error synapse learn; leave it out, or write "
            "rule.error_update=lra_e"
        )
    for option in ("error_std", "error_lr"):
        value = getattr(chosen, option)
        if value is not None and value <= 0:
            raise UserError(f"rule.{option}={value:g} must be above 0: {_MEANING[option]}; null leaves it to the rule")
    for option in ("p", "q"):
        if getattr(chosen, option) < 1:
            raise UserError(
                f"rule.{option}={getattr(chosen, option):g} must be 1 or more: the discrepancy ||z - y||_p ^ q of a layer is "
                f"not convex below, and its gradient has no bound at 0; the paper has rule.{option}=2"
            )
    if chosen.depth is not None and chosen.depth < 1:
        raise UserError(
            f"rule.depth={chosen.depth}: no node would have a target; write 1 (those that hear the output) or more, or null"
        )
    if chosen.inner == "backprop" and chosen.depth not in (None, 1):
        raise UserError(
            f"rule.depth={chosen.depth} has no meaning with rule.inner=backprop, which has targets at the blocks' outputs and "
            "derivatives inside; leave it out, or write rule.inner=local"
        )
    if chosen.workers < 1:
        raise UserError(
            f"rule.workers={chosen.workers}: it is the number of threads that blocks are shared among; write 1 or more"
        )
    if chosen.workers > 1 and compiled:
        raise UserError(
            f"rule.workers={chosen.workers}: a compiled step is one program, whose blocks are not shared among threads; leave out "
            "trainer.compile, or write rule.workers=1"
        )


_MEANING = {
    "error_std": "it is the standard deviation of the error synapses' first weights",
    "error_lr": "it is the learning rate of the error synapses",
}


def weights(given: float | Sequence[float], names: Sequence[str], model: str) -> dict[str, float]:
    """Return every node's kappa by name.

    Raises:
        UserError: another number of them than of nodes, or one that is not above 0.
    """
    values = [given] * len(names) if not isinstance(given, Sequence) else list(given)
    if len(values) != len(names):
        raise UserError(
            f"rule.kappa has {len(values)} values, but {model} has {len(names)} nodes with targets ({', '.join(names)}): give "
            f"{len(names)} values, or one number for all"
        )
    for name, value in zip(names, values, strict=True):
        if not 0 < value < math.inf:
            raise UserError(
                f"rule.kappa={value:g} of '{name}' must be above 0: it weighs the node's discrepancy, and its layers would not "
                "learn; freeze what should not (requires_grad_(False)), or write 1"
            )
    return dict(zip(names, map(float, values), strict=True))
