"""Slow twins of dual propagation in numpy, written from the paper's equations (Hoier and Zach 2024) and nothing of credit's.

Legend: s_k^+ and s_k^- (``plus``, ``minus``) the two states, alpha and abar = 1 - alpha their weights in
sbar_k = alpha_k s_k^+ + abar_k s_k^-, delta_k = s_k^+ - s_k^-, a_k = W_{k-1} sbar_{k-1} + b, l the loss, beta_k the nudging
strength (1 / beta_k stands before E_k in Eqs. 12 and 44, so that feedback crosses to state k as (beta_k / beta_{k+1}) W_k^T
delta_{k+1}), L_k the damping of Eq. 50. One sample after the other: no sample knows of another.

Readings that the equations leave open. Max-pool switches are those of the last evaluation of a_k, at the sbar of that time
(``switches`` mean), or, for feedback into a state, those at the state's own current s^+ (plus: the authors' code).
Updates evaluate every layer once more, at the final sbar. The input's term E_0 = |s_0 - x|^2 / 2 makes the input one more
state: its activation is the identity, a_0 = x, alpha_0 = alpha_1, beta_0 = beta_1; it counts as one more layer below the
first in every schedule. One visit of a state is one fixed-point iteration, its two halves from the same feedback.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tests.support.twins_states import Array, Found, Network, above, predict, residual_of, value_of


@dataclass
class Settings:
    """The rule. Lists have one entry a state, from the first hidden to the output.

    Attributes:
        variant: original (Eqs. 2, 3), adjoint (Eqs. 19, 22) or lpom (Eq. 45).
        damping: L_k of each hidden state by its number (Eq. 50), of all samples or a list of one each; none: undamped.
        schedule: fw, fwbw, or ``orders``: the numbers of the states to visit, a list a pass.
        nudge: current, frozen or prox: l' at the current a_L, at the first one, or (half_sse) the exact minimiser.
        input_term: add E_0.
        switches: of max-pools on the way of feedback: mean or plus.
    """

    variant: str = "original"
    alpha: float | Sequence[float] = 0.5
    beta: float | Sequence[float] = 0.1
    loss: str = "half_sse"
    schedule: str = "fwbw"
    passes: int = 1
    orders: Sequence[Sequence[int]] = ()
    nudge: str = "current"
    damping: Mapping[int, float | Sequence[float]] = field(default_factory=dict)
    input_term: bool = False
    switches: str = "mean"

    def of(self, values: float | Sequence[float], k: int) -> float:
        return float(values) if isinstance(values, int | float) else float(values[max(k, 1) - 1])

    def alpha_of(self, k: int) -> float:
        return 1.0 if self.variant == "lpom" else self.of(self.alpha, k)

    def beta_of(self, k: int) -> float:
        return self.of(self.beta, k)


@dataclass
class States:
    """The states of one sample, the input's first, and after every pass."""

    plus: list[Array]
    minus: list[Array]
    history: list[tuple[list[Array], list[Array]]] = field(default_factory=list)

    def mean(self, s: Settings) -> list[Array]:
        """sbar of every state."""
        return [_mean(p, m, s.alpha_of(k)) for k, (p, m) in enumerate(zip(self.plus, self.minus, strict=True))]


def _mean(plus: Array, minus: Array, alpha: float) -> Array:
    """alpha s^+ + (1 - alpha) s^-, written so that equal states are their own mean to the last bit: max-pools have ties."""
    return minus + alpha * (plus - minus) if alpha < 0.5 else plus - (1 - alpha) * (plus - minus)


def order_of(s: Settings, last: int) -> list[list[int]]:
    """The numbers of the states to visit, a list a pass; ``last`` is L.

    fw is [1..L] again and again. fwbw is [L..2], then [1..L-1, L..1] for each pass after the first, then [1], which ends the
    last pass. With the input's term everything starts one state lower.
    """
    if s.orders:
        return [list(order) for order in s.orders]
    first = 0 if s.input_term else 1
    up = list(range(first, last + 1))
    if s.schedule == "fw":
        return [up for _ in range(s.passes)]
    assert s.schedule == "fwbw", s.schedule
    passes = [up[:0:-1], *(up[:-1] + up[::-1] for _ in range(s.passes - 1))]
    return [*passes[:-1], passes[-1] + [first]]


def infer(net: Network, x: Array, y: int, s: Settings) -> States:
    """The states of one sample after all passes, from one ordinary forward pass."""
    last = len(net)
    free = predict(net, x)
    states = States(list(free), list(free))
    first_pull = residual_of(s.loss, free[last], y)
    for order in order_of(s, last):
        for k in order:
            if s.variant == "lpom":
                _visit_lpom(net, states, k, x, y, s, first_pull)
            else:
                _visit(net, states, k, x, y, s, first_pull)
        states.history.append((list(states.plus), list(states.minus)))
    if s.variant == "lpom":
        states.minus = [states.plus[0], *(node.f(node.below(states.plus)) for node in net)]
    return states


def _visit(net: Network, states: States, k: int, x: Array, y: int, s: Settings, first_pull: Array) -> None:
    """Eqs. 2, 3 (original) or 19, 22 (adjoint), damped as in Eq. 50."""
    alpha = s.alpha_of(k)
    rise, fall = (alpha, 1 - alpha) if s.variant == "original" else (1 - alpha, alpha)
    a = x if k == 0 else net[k - 1].below(states.mean(s))
    if k == len(net):
        states.plus[k] = _nudged(a, y, rise * s.beta_of(k), s, first_pull)
        states.minus[k] = _nudged(a, y, -fall * s.beta_of(k), s, first_pull)
        return
    fed = np.zeros_like(a)
    for j, branch in above(net, k):
        if s.switches == "plus":
            branch.forward(states.plus[k])
        fed += s.beta_of(k) / s.beta_of(j) * branch.back(states.plus[j] - states.minus[j])
    f = (lambda v: v) if k == 0 else net[k - 1].f
    damping = _one(s.damping.get(k, 0.0))
    plus, minus = states.plus[k], states.minus[k]
    states.plus[k] = f((a + rise * fed + damping * plus) / (1 + damping))
    states.minus[k] = f((a - fall * fed + damping * minus) / (1 + damping))


def _visit_lpom(net: Network, states: States, k: int, x: Array, y: int, s: Settings, first_pull: Array) -> None:
    """Eq. 45, damped as in Eq. 50: s^- is always f(W s^+), and so is not kept."""
    below = states.plus
    a = x if k == 0 else net[k - 1].below(below)
    if k == len(net):
        below[k] = _nudged(a, y, s.beta_of(k), s, first_pull)
        return
    fed = np.zeros_like(a)
    for j, node in enumerate(net, 1):
        if any(branch.source == k for branch in node.branches):
            gap = below[j] - node.f(node.below(below))
            for branch in node.branches:
                if branch.source == k:
                    if s.switches == "plus":
                        branch.forward(below[k])
                    fed += s.beta_of(k) / s.beta_of(j) * branch.back(gap)
    f = (lambda v: v) if k == 0 else net[k - 1].f
    damping = _one(s.damping.get(k, 0.0))
    below[k] = f((a + fed + damping * below[k]) / (1 + damping))


def _one(value: float | Sequence[float]) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _nudged(a: Array, y: int, q: float, s: Settings, first_pull: Array) -> Array:
    """argmin of q l(s) + |s - a|^2 / 2, exactly or with l linearised."""
    if s.nudge == "prox":
        assert s.loss == "half_sse" and q > -1
        target = np.zeros_like(a)
        target[y] = 1.0
        return (a + q * target) / (1 + q)
    return a - q * (first_pull if s.nudge == "frozen" else residual_of(s.loss, a, y))


def updates_of(net: Network, states: States, s: Settings) -> Found:
    """Descent directions of one sample: -delta_{k+1} sbar_k^T / beta_{k+1} in every layer."""
    found, mean = Found(), states.mean(s)
    for k, node in enumerate(net, 1):
        node.below(mean)
        delta = states.plus[k] - states.minus[k]
        for branch in node.branches:
            branch.update(-delta / s.beta_of(k), found)
    return found


@dataclass
class Outcome:
    """A step: logits (B, classes), mean loss, states (B, ...) by number, residuals by pass, and updates averaged over samples."""

    logits: Array
    loss: float
    plus: list[Array]
    minus: list[Array]
    residuals: list[float]
    updates: dict[str, Array]


def step(net: Network, x: Array, y: Sequence[int], s: Settings) -> Outcome:
    """One step on inputs x (B, ...) and labels y, one sample after the other."""
    found, free, all_states = Found(), [], []
    for b, (x_b, y_b) in enumerate(zip(x.reshape(len(x), -1), y, strict=True)):
        free.append(predict(net, x_b)[-1])
        own = {k: L if isinstance(L, int | float) else L[b] for k, L in s.damping.items()}
        states = infer(net, x_b, int(y_b), replace(s, damping=own))
        all_states.append(states)
        for name, update in updates_of(net, states, s).updates.items():
            found.add(name, update / len(x))
    loss = sum(value_of(s.loss, logits, int(y_b)) for logits, y_b in zip(free, y, strict=True)) / len(x)
    plus, minus = ([np.stack([side(each)[k] for each in all_states]) for k in range(len(net) + 1)]
                   for side in (lambda each: each.plus, lambda each: each.minus))  # fmt: skip
    return Outcome(np.stack(free), loss, plus, minus, _residuals(all_states, net, x, s), found.updates)


def _residuals(all_states: Sequence[States], net: Network, x: Array, s: Settings) -> list[float]:
    """|s^p - s^(p-1)| / |s^p| over all states of all samples (the input's too where it is one), for every pass p."""
    lowest, sides = 0 if s.input_term else 1, 1 if s.variant == "lpom" else 2

    def flat(pairs: Sequence[Sequence[Array]]) -> Array:
        return np.concatenate([state for side in pairs[:sides] for state in side[lowest:]])

    starts = [predict(net, x_b) for x_b in x.reshape(len(x), -1)]
    before = np.concatenate([flat((start, start)) for start in starts])
    residuals = []
    for p in range(len(all_states[0].history)):
        after = np.concatenate([flat(states.history[p]) for states in all_states])
        residuals.append(float(np.linalg.norm(after - before) / np.linalg.norm(after)))
        before = after
    return residuals


def norms_of(
    net: Network, x: Array, s: Settings, starts: Mapping[int, Array] | None = None, iterations: int = 5
) -> dict[int, list[float]]:
    """Eq. 50's L_k, a sample each: the largest eigenvalue of the sum over j of (beta_k / beta_j) J_j^T J_j, J_j the linear map
    from state k to a_j with the switches of the forward pass; or what power iterations make of it from ``starts``
    (one, or a sample each; ...)."""
    found: dict[int, list[float]] = {k: [] for k in range(0 if s.input_term else 1, len(net))}
    for b, x_b in enumerate(x.reshape(len(x), -1)):
        states = predict(net, x_b)
        for k, norms in found.items():
            square = np.zeros((len(states[k]), len(states[k])))
            for j, node in enumerate(net, 1):
                rows = np.zeros((len(states[j]), len(states[k])))
                for branch in node.branches:
                    if branch.source == k:
                        rows += np.stack([branch.back(row) for row in np.eye(len(rows))])
                square += s.beta_of(k) / s.beta_of(j) * rows.T @ rows
            if starts is None:
                norms.append(float(np.linalg.eigvalsh(square)[-1]))
                continue
            v = starts[k][b % len(starts[k])].ravel()
            for _ in range(iterations):
                v = square @ (v / np.linalg.norm(v))
            norms.append(float(np.linalg.norm(v)))
    return found
