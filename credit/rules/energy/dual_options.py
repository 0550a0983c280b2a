"""What dual propagation leaves to choose, and what of it cannot be (see `credit.rules.energy.dual`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from credit.core.errors import UserError
from credit.core.randomness import generator
from credit.engine.inference.segments import Segments
from credit.engine.ops.pools import AdaptivePool, MaxPool
from credit.rules.energy.dyads import Dyad
from credit.rules.shared import SharedOptions

PROJECTIONS = ("relu", "relu6", "hardtanh", "identity")


@dataclass(frozen=True)
class DualOptions(SharedOptions):
    """What dual propagation leaves to choose.

    Attributes:
        variant: ``original`` (Eq. 2, 3), ``adjoint`` (DP^T, Eq. 19, 22) or ``lpom`` (alpha = 1, Eq. 45).
        alpha: weight of s+ in a unit's value, in [0, 1]; a list gives one to each layer, the output's last.
        beta: strength of the nudge, above 0; a list likewise (Eq. 12).
        loss: ``ce``, or ``half_sse``: 1/2 sum over outputs of (s - y)^2.
        schedule: order of the states' updates: ``fwbw``, ``fw`` or ``random`` (see `order`).
        passes: how often it is gone through.
        nudge: the loss's gradient at the output's ``current`` prediction or at the one before any nudge (``frozen``), or the
            exact ``prox`` of least squares (Eq. 3).
        damped: stabilise the iterations (Eq. 50).
        damping: how strongly, L by gamma = ``|W|``: ``norm``, gamma^2 (the paper), or ``half_excess``, (gamma^2 - 1) / 2 and not
            below 0 (the authors' JAX code).
        power_iterations: of the damping's ``|W^T W|``.
        transport: what differences cross weights by.
        input_robustness: give the input a state too, ``E_0 = 1/2 |s_0 - x|^2``.
        pool_first: let max pools change places with the activation before them, which leaves the network as it is: the authors'
            order, in which a state stands for a window and not for each of its units.
        switches: which inputs of a max pool the feedback into a state goes to: those that were largest when the pool was last
            evaluated, at the states' values (``mean``), or those that are largest at the states' current s+ (``plus``, as in the
            authors' code). The same in a single pass of ``fwbw``. Weights' updates always take those at the values.
        batchnorm: ``refuse``, or ``frozen``: in its running statistics, which steps then never move.
    """

    variant: Literal["original", "adjoint", "lpom"] = "original"
    alpha: float | Sequence[float] = 0.5
    beta: float | Sequence[float] = 0.01
    loss: Literal["ce", "half_sse"] = "ce"
    schedule: Literal["fwbw", "fw", "random"] = "fwbw"
    passes: int = 1
    nudge: Literal["current", "frozen", "prox"] = "current"
    damped: bool = False
    damping: Literal["norm", "half_excess"] = "norm"
    power_iterations: int = 5
    transport: str = "transpose"
    input_robustness: bool = False
    pool_first: bool = True
    switches: Literal["mean", "plus"] = "mean"
    batchnorm: Literal["refuse", "frozen"] = "refuse"


def order(schedule: str, passes: int, first: int, last: int, seeds: tuple[int, int] = (0, 0)) -> list[list[int]]:
    """Return the states' numbers in the order of their updates, by pass.

    ``fw``: first to last, again and again. ``fwbw``: last to the second, then (passes - 1) times up to the one below the last
    and down from the last, then the first: with one pass each state is renewed once, as a signal is sent back. ``random``:
    each pass an order of its own, drawn for (seed, step).
    """
    if schedule == "fw":
        return [list(range(first, last + 1)) for _ in range(passes)]
    if schedule == "random":
        source = generator(seeds[0], "dual.order", seeds[1])
        return [(torch.randperm(last + 1 - first, generator=source) + first).tolist() for _ in range(passes)]
    down = list(range(last, first - 1, -1))
    rounds = [down[:-1] if last > first else []]
    rounds += [[*range(first, last), *down] for _ in range(passes - 1)]
    rounds[-1] = [*rounds[-1], first]
    return rounds


def refuse_numbers(chosen: DualOptions, *, compiled: bool) -> None:
    """Refuse what cannot be, whatever the network."""
    if chosen.passes < 1:
        raise UserError(
            f"rule.passes={chosen.passes}: without a pass no state is nudged and nothing is learnt; write rule.passes=1 or more"
        )
    if not chosen.damped and chosen.damping != DualOptions.damping:
        raise UserError(
            f"rule.damping={chosen.damping} would change nothing: it is how strong the damping is, and rule.damped is false; "
            "leave it out, or write rule.damped=true (rule=dp_damped)"
        )
    if not chosen.damped and chosen.power_iterations != DualOptions.power_iterations:
        raise UserError(
            f"rule.power_iterations={chosen.power_iterations} would change nothing: they find the damping, and rule.damped is "
            "false; leave it out, or write rule.damped=true (rule=dp_damped)"
        )
    if chosen.damped and chosen.power_iterations < 1:
        raise UserError(
            f"rule.power_iterations={chosen.power_iterations}: the damping is found by power iteration; the paper's is 5"
        )
    if chosen.schedule == "random" and compiled:
        raise UserError(
            "rule.schedule=random draws another order at every step, which a compiled step cannot; leave out trainer.compile, "
            "or write rule.schedule=fwbw"
        )


def constants(chosen: DualOptions, segments: Segments, model: str) -> dict[int, Dyad]:
    """Return every state's constants by its number; the input's are those of the first layer."""
    alphas = _each("alpha", chosen.alpha, segments.last, model)
    betas = _each("beta", chosen.beta, segments.last, model)
    for alpha in alphas:
        if not 0 <= alpha <= 1:
            raise UserError(
                f"rule.alpha={alpha:g} is outside [0, 1]: it is the weight of s+ in a unit's value, that of s- being 1 - alpha"
            )
        if chosen.variant == "lpom" and alpha != 1:
            raise UserError(
                f"rule.alpha={alpha:g} is not lpom, which is dual propagation at alpha = 1 with s- in closed form (Eq. 45); "
                "write rule.alpha=1, or rule=dp"
            )
    for beta in betas:
        if not 0 < beta < math.inf:
            raise UserError(
                f"rule.beta={beta:g} must be above 0: it is the strength of the nudge, by which updates are divided; the paper "
                "uses 0.01 to 1"
            )
    made = {}
    for number in segments.by_number:
        alpha, beta = alphas[max(number, 1) - 1], betas[max(number, 1) - 1]
        up, down = (1 - alpha, alpha) if chosen.variant == "adjoint" else (alpha, 1 - alpha)
        made[number] = Dyad(alpha, beta, up, down)
    return made


def refuse_damping(chosen: DualOptions, segments: Segments, model: str) -> None:
    """Refuse damped iterations where they would settle elsewhere: Eq. 50 holds for activations that project on a set."""
    for state in segments.states if chosen.damped else ():
        if state.op is not None and state.op.args["name"] not in PROJECTIONS:
            raise UserError(
                f"rule.damped=true cannot take {state.op.args['name']} at '{state.op.name}' in {model}: Eq. 50 weighs a state with "
                "its activation's input, which leaves the resting point where it is only if the activation leaves its own "
                f"values as they are. Those that do: {', '.join(PROJECTIONS)}. Write arch.activation=relu, or rule.damped=false"
            )


def refuse_switches(chosen: DualOptions, segments: Segments, model: str) -> None:
    """Refuse a choice of switches where no max pool stands between states."""
    if chosen.switches == "plus" and not any(
        (isinstance(op, MaxPool) or (isinstance(op, AdaptivePool) and op.args["mode"] == "max"))
        and segments.numbers(op.out)
        for op in segments.plan.back
    ):
        raise UserError(
            f"rule.switches=plus would change nothing: no max pool of {model} stands between states; leave it out"
        )


def _each(name: str, given: float | Sequence[float], count: int, model: str) -> list[float]:
    if not isinstance(given, Sequence):
        return [float(given)] * count
    if len(given) != count:
        raise UserError(
            f"rule.{name} has {len(given)} values, but {model} has {count} layers with states (its "
            f"activations, then the output): give {count} values, or one number for all"
        )
    return [float(value) for value in given]


def refuse_nudge(chosen: DualOptions, output: Dyad) -> None:
    """Refuse an exact nudge where there is none."""
    if chosen.nudge != "prox":
        return
    if chosen.variant == "adjoint":
        raise UserError(
            "rule.nudge=prox belongs to the original dual propagation (Eq. 3); DP^T's output is its loss's gradient (Eq. 22): "
            "write rule.nudge=current or frozen, or rule=dp"
        )
    if chosen.loss != "half_sse":
        raise UserError(
            f"rule.nudge=prox is the exact minimiser of least squares, and rule.loss={chosen.loss} has none in closed "
            "form; write rule.loss=half_sse, or rule.nudge=current, which is linear in the loss"
        )
    if output.down * output.beta >= 1:
        raise UserError(
            f"rule.nudge=prox with alpha={output.alpha:g} and beta={output.beta:g} diverges: s- is pushed away from the target "
            f"by (1 - alpha) beta = {output.down * output.beta:g} times the squared distance, but held by 1 times it, so that "
            "there is no minimum at 1 or above; lower rule.beta or raise rule.alpha, or write rule.nudge=current"
        )
