"""Slow twins of target propagation in numpy, from the equations and nothing of credit's.

Lee et al. 2015 (difference target propagation); Ernoult et al. 2022 for targets at the logits and the local difference
reconstruction loss. Legend: z_l node l (a state of ``twins_states``), L the logits, F_l the network from node l - 1 to node l,
G_l the feedback map back, t_l target, eta step size of the first target, x + eps a noisy activation.

    t_N = z_N - eta dl/dz_N at the last hidden node, or t_L = z_L - eta dl/dz_L at the logits
    t_{l-1} = G_l(t_l), or, difference, z_{l-1} + G_l(t_l) - G_l(z_l)
    G_l(u) = f_{l-1}(V u + c), f_{l-1} the activation of the lower node
    layer l learns from |z_l - t_l|^2, the head from the loss, or from |z_L - t_L|^2 where the logits have the first target
    G_l learns from |G_l(F_l(x + eps)) - (x + eps)|^2, x = z_{l-1}; or, local difference reconstruction, u = F_l(x), from
        -2 <eps, G_l(F_l(x + eps)) - G_l(u)> + |G_l(u + delta) - G_l(u)|^2

Squares are sums over units, means over the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tests.support import twins_lra
from tests.support.twins import DERIVATIVE, FORWARD
from tests.support.twins_lra import Synapse
from tests.support.twins_states import Array, Found, Network, above, predict, residual_of, value_of


@dataclass
class Settings:
    """The rule; ``nodes`` are the numbers of the states with targets, lowest first (none: all hidden ones)."""

    difference: bool = True
    first_target: str = "penultimate"
    target_step: float = 0.328
    feedback_loss: str = "reconstruction"
    feedback_steps: int = 1
    feedback_lr: float = 0.1
    loss: str = "ce"
    nodes: Sequence[int] = ()

    def chain(self, last: int) -> list[int]:
        """The nodes that targets are handed down along."""
        nodes = list(self.nodes or range(1, last))
        return [*nodes, last] if self.first_target == "logits" else nodes


@dataclass(frozen=True)
class Back:
    """G: f(V u + c). ``channel`` says which number of c each unit of the lower node has."""

    synapse: Synapse
    bias: Array
    channel: np.ndarray
    activation: str

    def before(self, u: Array) -> Array:
        return self.synapse.carry(u) + self.bias[self.channel]

    def __call__(self, u: Array) -> Array:
        return np.asarray(FORWARD[self.activation](self.before(u)))

    def update(self, u: Array, g: Array) -> tuple[Array, Array]:
        """The derivatives of <g, G(u)> by V and c."""
        d = g * DERIVATIVE[self.activation](self.before(u))
        return self.synapse.product(d, u), np.bincount(self.channel, d, len(self.bias)).astype(np.float64)

    def moved(self, lr: float, by: tuple[Array, Array]) -> "Back":
        """G after a step of gradient descent."""
        return replace(self, synapse=self.synapse.moved(-lr * by[0]), bias=self.bias - lr * by[1])


Maps = Mapping[int, Back]
"""G by the number of its lower node."""
Noise = Callable[[str, int, int], Array]
"""(``eps`` or ``delta``, number of the lower node, step of the feedback's training) -> (B, units), scaled."""


def ahead(net: Network, states: Sequence[Array], low: int, high: int, value: Array) -> Array:
    """F: state ``high`` where state ``low`` is ``value``."""
    moved = list(states)
    moved[low] = value
    for k in range(low + 1, high + 1):
        moved[k] = net[k - 1].f(net[k - 1].below(moved))
    return moved[high]


def down(net: Network, h: Mapping[int, Array], signal: Array, low: int) -> Array:
    """The derivative of <signal, logits> by state ``low``, which all states after it hang on."""
    at = {len(net): signal}
    for k in range(len(net) - 1, low - 1, -1):
        at[k] = sum((branch.back(at[j]) for j, branch in above(net, k)), np.zeros_like(h[k]))
        if k > low:
            at[k] = at[k] * DERIVATIVE[net[k - 1].activation](h[k])
    return at[low]


@dataclass
class Sample:
    """One sample's states (the input first), targets by node, and layers' updates by name."""

    states: list[Array]
    targets: dict[int, Array]
    updates: dict[str, Array] = field(default_factory=dict)


def infer(net: Network, maps: Maps, x: Array, label: int, s: Settings) -> Sample:
    states, last = predict(net, x), len(net)
    h = {k: node.below(states) for k, node in enumerate(net, 1)}
    pull = residual_of(s.loss, states[last], label)
    chain = s.chain(last)
    top = chain[-1]
    targets = {top: states[top] - s.target_step * (pull if top == last else down(net, h, pull, top))}
    for low, high in zip(chain[-2::-1], chain[:0:-1], strict=True):
        targets[low] = maps[low](targets[high])
        if s.difference:
            targets[low] = targets[low] + states[low] - maps[low](states[high])
    e = {k: 2 * (states[k] - t) for k, t in targets.items()}
    e.setdefault(last, pull)
    found = twins_lra.Sample(h, dict(enumerate(states)), {}, {}, e)
    return Sample(states, targets, twins_lra.updates(net, found, twins_lra.Settings(inner="backprop")))


def feedback_update(
    net: Network, samples: Sequence[Sample], back: Back, low: int, high: int, s: Settings, noise: Mapping[str, Array]
) -> tuple[Array, Array]:
    """The gradient of G's loss by V and c."""
    dV: Array = np.zeros(())
    dc = np.zeros_like(back.bias)
    for b, one in enumerate(samples):
        x, u = one.states[low], one.states[high]
        eps = noise["eps"][b].ravel()
        noisy = ahead(net, one.states, low, high, x + eps)
        if s.feedback_loss == "reconstruction":
            pulls = [(noisy, 2 * (back(noisy) - (x + eps)))]
        else:
            delta = noise["delta"][b].ravel()
            away = 2 * (back(u + delta) - back(u))
            pulls = [(noisy, -2 * eps), (u, 2 * eps), (u + delta, away), (u, -away)]
        for at, g in pulls:
            by_v, by_c = back.update(at, g)
            dV, dc = dV + by_v / len(samples), dc + by_c / len(samples)
    return dV, dc


@dataclass
class Outcome:
    """A step: logits (B, classes), mean loss, targets (B, units) by number, updates by name, of V and c by lower node."""

    logits: Array
    loss: float
    states: dict[int, Array]
    targets: dict[int, Array]
    updates: dict[str, Array]
    feedback: dict[int, tuple[Array, Array]]


def step(net: Network, maps: Maps, x: Array, y: Sequence[int], s: Settings, noise: Noise) -> Outcome:
    """One step on inputs x (B, ...) and labels y; of several feedback steps the update is the way they went over the rate."""
    found, last = Found(), len(net)
    samples = [infer(net, maps, x_b, int(y_b), s) for x_b, y_b in zip(x.reshape(len(x), -1), y, strict=True)]
    for one in samples:
        for name, update in one.updates.items():
            found.add(name, update / len(x))
    feedback: dict[int, tuple[Array, Array]] = {}
    chain = s.chain(last)
    for low, high in zip(chain, chain[1:], strict=False):
        back = maps[low]
        dV: Array = np.zeros(())
        dc: Array = np.zeros(())
        for at in range(s.feedback_steps):
            words = ("eps",) if s.feedback_loss == "reconstruction" else ("eps", "delta")
            by = feedback_update(net, samples, back, low, high, s, {word: noise(word, low, at) for word in words})
            back = back.moved(s.feedback_lr, by)
            dV, dc = dV + by[0], dc + by[1]
        feedback[low] = dV, dc
    logits = np.stack([one.states[last] for one in samples])
    loss = sum(value_of(s.loss, z, int(y_b)) for z, y_b in zip(logits, y, strict=True)) / len(x)
    targets = {k: np.stack([one.targets[k] for one in samples]) for k in sorted(samples[0].targets)}
    states = {k: np.stack([one.states[k] for one in samples]) for k in range(last + 1)}
    return Outcome(logits, loss, states, targets, found.updates, feedback)
