"""Options of rules with targets: representation alignment (kind ``lra``), target propagation (``target_propagation``). No torch.

Legend: h_i pre-activation, z_i = f(h_i) activation, y_i target, e_i error and d_i displacement of node i, E error synapses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from credit.core.errors import UserError
from credit.core.options import opt
from credit.core.registry import component
from credit.rules.backward.options import ce_or_half_sse
from credit.rules.options import RuleOptions

Synapses = Literal["auto", "dense", "conv"]


def _synapses() -> Any:
    return opt(
        "auto", "weights between nodes: dense, conv (shared among positions), or auto: conv between feature maps"
    )


@component("rule", "lra", "credit.rules.targets.lra:LraRule")
@dataclass(frozen=True)
class LraOptions(RuleOptions):
    """Recursive local representation alignment: targets from errors that skip layers, error synapses that learn."""

    beta: float = opt(
        0.1, "how far a target is from its layer's value, y = f(h - beta d); at 0 every layer is at its target already", gt=0,
        source="rec-LRA, Eq. 3",
    )  # fmt: skip
    gamma: float = opt(1.0, "factor on the updates of the error synapses; rule.error_update=fixed leaves them as they are", gt=0,
                       when="error_update!=fixed",
                       source="rec-LRA, Algorithm 2")  # fmt: skip
    skip_gap: Literal["auto", "blocks"] | int = opt(
        "auto", "nodes that receive the output's error: each so many-th layer, 0 (none), or blocks (the residual blocks' outputs); "
        "auto: blocks where the network branches, else 2", ge=0, source="rec-LRA, section 3.2",
    )  # fmt: skip
    error_connectivity: dict[str, str | Sequence[str] | None] | None = opt(
        None, "nodes whose errors single nodes receive, {act1:act3,act2:[act3,output],act3:output}, over those of the gap; of a "
        "node with null the error signal comes by derivatives from above", was="wiring",
    )  # fmt: skip
    depth: int | None = opt(
        None, "targets at nodes within so many error synapses of the output, derivatives below; null: everywhere", ge=1
    )
    inner: Literal["local", "backprop"] = opt(
        "local", "inside a block an error is the signal at h as it is (Algorithm 2), or backprop: dL/dz of its block, which passes "
        "derivatives",
    )  # fmt: skip
    error_update: Literal["lra_e", "paper", "paper_alg1", "fixed"] = opt(
        "lra_e", "of error synapses: lra_e (gamma z_i e_j^T, the authors' code), paper (-gamma d_i e_j^T, Algorithm 2) or "
        "paper_alg1 (-gamma e_i d_j^T, Algorithm 1), which as printed grow without bound, or fixed (none)",
    )  # fmt: skip
    synapses: Synapses = _synapses()
    error_std: float | None = opt(
        None, "standard deviation of the error synapses' first weights, normal around 0; null: 1 / sqrt(units that one unit "
        "receives)", gt=0,
    )  # fmt: skip
    error_lr: float | None = opt(
        None, "learning rate of the error synapses; null: the optimizer's", gt=0, when="error_update!=fixed"
    )
    kappa: float | Sequence[float] = opt(
        1.0, "weight of each layer's discrepancy; a list gives one to each node, the output's last. Freeze what should not learn "
        "(requires_grad_(False))", gt=0, source="rec-LRA, Eq. 2",
    )  # fmt: skip
    p: float = opt(
        2.0, "norm of the discrepancy ||z - y||_p ^ q, which is not convex below 1", ge=1, source="rec-LRA, Eq. 2"
    )
    q: float = opt(
        2.0, "power of the discrepancy ||z - y||_p ^ q, which is not convex below 1", ge=1, source="rec-LRA, Eq. 2"
    )
    loss: Literal["auto", "ce", "half_sse"] = ce_or_half_sse("auto")
    workers: int = opt(1, "threads that independent blocks are shared among", ge=1, speed=True)

    def __post_init__(self) -> None:
        if self.inner == "backprop" and self.depth not in (None, 1):
            raise UserError(
                f"rule.depth={self.depth} has no meaning with rule.inner=backprop, which has targets at the blocks' outputs and "
                "derivatives inside; leave it out, or write rule.inner=local"
            )


@component("rule", "target_propagation", "credit.rules.targets.target_propagation:TargetPropagationRule")
@dataclass(frozen=True)
class TargetOptions(RuleOptions):
    """Target propagation: targets sent down by feedback maps that learn to invert the layers."""

    difference: bool = opt(
        True, "correct each target by what feedback gets wrong at the activation itself, t = z + G(t above) - G(z above); false: "
        "t = G(t above)", source="Lee et al. 2015, Eq. 15",
    )  # fmt: skip
    first_target: Literal["penultimate", "logits"] = opt(
        "penultimate", "where the loss's gradient makes a target: at the last activation (the head then learns from the loss), "
        "or at the logits (feedback from there too)",
    )  # fmt: skip
    target_step: float = opt(
        0.328, "how far the first target is moved down a sample's loss gradient; at 0 every target would be what is there already",
        gt=0, source="Lee et al. 2015, Eq. 8",
    )  # fmt: skip
    noise_std: float = opt(
        0.36,
        "standard deviation of the Gaussian noise that feedback is trained with",
        ge=0,
        source="Lee et al. 2015, Eq. 13",
    )
    feedback_loss: Literal["reconstruction", "l_drl"] = opt(
        "reconstruction", "reconstruction of a noisy activation, or l_drl: the local difference reconstruction loss",
        source="Ernoult et al. 2022",
    )  # fmt: skip
    feedback_steps: int = opt(
        1,
        "gradient steps of each feedback map in one step of the rule, on fresh noise each; more than 1 need rule.feedback_lr",
        ge=1,
    )
    feedback_lr: float | None = opt(None, "learning rate of the feedback maps; null: the optimizer's", gt=0)
    synapses: Synapses = _synapses()
    loss: Literal["auto", "ce", "half_sse"] = ce_or_half_sse("auto")

    def __post_init__(self) -> None:
        if self.feedback_loss == "l_drl" and self.noise_std == 0:
            raise UserError(
                "rule.noise_std=0 with rule.feedback_loss=l_drl: that loss compares what feedback makes of an activation with and "
                "without noise, and is 0 without; write rule.noise_std=0.36"
            )
        if self.feedback_loss == "l_drl" and not self.difference:
            raise UserError(
                "rule.feedback_loss=l_drl trains how feedback answers a difference and leaves open what it gives an activation "
                "itself, which rule.difference=false takes for a target: write rule.difference=true, or "
                "rule.feedback_loss=reconstruction"
            )
        if self.feedback_steps > 1 and self.feedback_lr is None:
            raise UserError(
                f"rule.feedback_steps={self.feedback_steps}: a step of the rule that makes several steps of gradient descent has "
                "to know their learning rate; write rule.feedback_lr=0.005 too"
            )
