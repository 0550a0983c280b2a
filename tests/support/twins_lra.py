"""Slow twins of recursive local representation alignment in numpy, from the paper's equations and nothing of credit's.

Ororbia et al., "Reducing the computational burden of deep learning with recursive local representation alignment". Legend:
h_i, z_i = f_i(h_i) before and behind the activation of node i, y_i its target, e_i its error neurons, d_i what the error
synapses E_{j->i} bring it, L the output, B samples. Nodes are the states of ``twins_states``: 1..L-1, the output L.

    e_L = z_L - y_L, z_L the softmax of the logits (ce) or the logits (half_sse)          (Alg. 2, line 14)
    d_i = sum over sources j of E_{j->i} e_j                                         (Eq. 3)
    y_i = f_i(h_i - beta d_i), e_i = z_i - y_i                                       (Eq. 3; Alg. 2, line 20)
    grad W = e z^T, of the layer below each node                                     (Alg. 2, line 25)

The printed indices of E's update do not agree with those of its use; an E gets the update of the pair (i, j) it joins.
One sample after the other; errors of other norms are derivatives of Eq. 2's discrepancy over q.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tests.support.twins import DERIVATIVE
from tests.support.twins_states import Array, Found, Network, above, predict, residual_of, value_of

T = TypeVar("T")
Pair = tuple[int, int]
"""The numbers of a target and of a source."""


@dataclass
class Settings:
    """The rule.

    Attributes:
        gap: the source of node i is the output where i % gap == 0, else the node above; 0: always the node above.
        connectivity: the sources of single nodes, in the place of the gap's; none: no target.
        depth: nodes more than so many error synapses away from the output have no target: derivatives pass them.
        inner: ``local``: e_i acts at h_i; ``backprop``: at z_i, so that it passes f_i'.
        kappa: of all nodes, or a list, one for each with a target and the output's last.
    """

    beta: float = 0.1
    gamma: float = 1.0
    gap: int = 0
    connectivity: Mapping[int, Sequence[int]] = field(default_factory=dict)
    depth: int | None = None
    inner: str = "local"
    error_update: str = "lra_e"
    kappa: float | Sequence[float] = 1.0
    p: float = 2.0
    q: float = 2.0
    loss: str = "ce"

    def kappas(self, nodes: Iterable[T]) -> dict[T, float]:
        """By node, given all in order of execution."""
        if isinstance(self.kappa, int | float):
            return dict.fromkeys(nodes, float(self.kappa))
        return dict(zip(nodes, map(float, self.kappa), strict=True))


def sources(s: Settings, last: int) -> dict[int, list[int]]:
    """The sources of every node that has a target, by its number, each behind its own sources; ``last`` is L."""
    wired = {i: [last if s.gap and i % s.gap == 0 else i + 1] for i in range(last - 1, 0, -1)}
    wired |= {i: list(given) for i, given in s.connectivity.items()}
    away = {last: 0}
    while waiting := [i for i, given in wired.items() if given and i not in away]:
        ready = next(i for i in waiting if all(j in away for j in wired[i]))  # none where errors go round in a circle
        away[ready] = 1 + min(away[j] for j in wired[ready])
    kept = [i for i in away if s.depth is None or away[i] <= s.depth]
    return {i: [j for j in wired[i] if j in kept] for i in kept if i != last}


# --- error synapses -----------------------------------------------------------------------------------------------------


class Synapse(ABC):
    """E_{j->i}."""

    @abstractmethod
    def carry(self, e: Array) -> Array:
        """E e."""

    @abstractmethod
    def product(self, z: Array, e: Array) -> Array:
        """The derivative of <z, E e> by E's weights, shaped like them."""

    @abstractmethod
    def moved(self, by: Array) -> "Synapse":
        """The synapse with its weights so much larger."""


@dataclass
class Dense(Synapse):
    """A matrix (units of i, units of j)."""

    weight: Array

    def carry(self, e: Array) -> Array:
        return self.weight @ e

    def product(self, z: Array, e: Array) -> Array:
        return np.outer(z, e)

    def moved(self, by: Array) -> Synapse:
        return Dense(self.weight + by)


@dataclass
class Maps(Synapse):
    """Between feature maps (channels, height, width): weights (channels of j, channels of i, k, k), shared among positions.

    d[c, y, x] is the sum of weight[n, c, a, b] e[n, v, w] over all with y = v t + a - k // 2 and x = w t + b - k // 2, t the step
    that leads from one size to the other, in each direction its own.
    """

    weight: Array
    target: tuple[int, int, int]
    source: tuple[int, int, int]

    def __post_init__(self) -> None:
        (_, height, width), (_, rows, columns) = self.target, self.source
        steps = [
            next(t for t in range(1, big + 1) if -(-big // t) == small)
            for big, small in ((height, rows), (width, columns))
        ]
        reach = [size // 2 for size in self.weight.shape[2:]]
        self.taps = [
            (a, b, v, w, y, x)
            for a, b, v, w in np.ndindex(*self.weight.shape[2:], rows, columns)
            if 0 <= (y := v * steps[0] + a - reach[0]) < height and 0 <= (x := w * steps[1] + b - reach[1]) < width
        ]

    def carry(self, e: Array) -> Array:
        e, d = e.reshape(self.source), np.zeros(self.target)
        for a, b, v, w, y, x in self.taps:
            d[:, y, x] += self.weight[:, :, a, b].T @ e[:, v, w]
        return d.ravel()

    def product(self, z: Array, e: Array) -> Array:
        z, e, made = z.reshape(self.target), e.reshape(self.source), np.zeros(self.weight.shape)
        for a, b, v, w, y, x in self.taps:
            made[:, :, a, b] += np.outer(e[:, v, w], z[:, y, x])
        return made

    def moved(self, by: Array) -> Synapse:
        return Maps(self.weight + by, self.target, self.source)


@dataclass
class Everywhere(Synapse):
    """A matrix (channels of i, units of j): every one of i's ``positions`` receives the same."""

    weight: Array
    positions: int

    def carry(self, e: Array) -> Array:
        return np.repeat(self.weight @ e, self.positions)

    def product(self, z: Array, e: Array) -> Array:
        return np.outer(z.reshape(-1, self.positions).sum(1), e)

    def moved(self, by: Array) -> Synapse:
        return Everywhere(self.weight + by, self.positions)


Synapses = Mapping[Pair, Synapse]


# --- one sample ---------------------------------------------------------------------------------------------------------


@dataclass
class Sample:
    """One sample's values by number of node; ``h[k]`` and ``z[k]`` of every node, the others of those with a target."""

    h: dict[int, Array]
    z: dict[int, Array]
    d: dict[int, Array]
    y: dict[int, Array]
    e: dict[int, Array]


def error(delta: Array, kappa: float, p: float, q: float) -> Array:
    """The derivative by delta of kappa ||delta||_p^q / q; 0 where delta is."""
    if not delta.any():
        return np.zeros_like(delta)
    norm = float((np.abs(delta) ** p).sum() ** (1 / p))
    return kappa * norm ** (q - p) * np.abs(delta) ** (p - 1) * np.sign(delta)


def infer(net: Network, synapses: Synapses, x: Array, label: int, s: Settings) -> Sample:
    last = len(net)
    states = predict(net, x)
    h = {k: node.below(states) for k, node in enumerate(net, 1)}
    z = dict(enumerate(states))
    target = np.zeros_like(z[last])
    target[label] = 1.0
    delta = residual_of(s.loss, z[last], label)
    wired = sources(s, last)
    kappas = s.kappas([*sorted(wired), last])
    found = Sample(h, z, {}, {last: target}, {last: error(delta, kappas[last], s.p, s.q)})
    for i, given in wired.items():
        d = sum((synapses[i, j].carry(found.e[j]) for j in given), np.zeros_like(h[i]))
        y = net[i - 1].f(h[i] - s.beta * d)
        found.d[i], found.y[i], found.e[i] = d, y, error(z[i] - y, kappas[i], s.p, s.q)
    return found


def updates(net: Network, found: Sample, s: Settings) -> dict[str, Array]:
    """e z^T in the layers below each target; a node without one hands down what comes from above, times f'."""
    made, last = Found(), len(net)
    at: dict[int, Array] = {last: found.e[last]}
    for k in range(last - 1, 0, -1):
        slope = DERIVATIVE[net[k - 1].activation](found.h[k])
        if k in found.e:
            at[k] = found.e[k] * (slope if s.inner == "backprop" else 1.0)
        else:
            at[k] = sum((branch.back(at[j]) for j, branch in above(net, k)), np.zeros_like(slope)) * slope
    for k, node in enumerate(net, 1):
        for branch in node.branches:
            branch.update(at[k], made)
    return made.updates


def error_updates(synapses: Synapses, found: Sample, s: Settings) -> dict[Pair, Array]:
    """To be subtracted; pairs that learn nothing are left out."""
    made: dict[Pair, Array] = {}
    for (i, j), synapse in synapses.items():
        if s.error_update == "lra_e":  # gamma times the transposed product of W's update
            made[i, j] = s.gamma * synapse.product(found.z[i], found.e[j])
        elif s.error_update == "paper":  # Alg. 2, lines 28 and 30
            made[i, j] = -s.gamma * synapse.product(found.d[i], found.e[j])
        elif s.error_update == "paper_alg1":  # Alg. 1, line 11; there is no d_L
            if j in found.d:
                made[i, j] = -s.gamma * synapse.product(found.e[i], found.d[j])
        else:
            assert s.error_update == "fixed", s.error_update
    return made


# --- a batch ------------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """A step: logits (B, classes), mean loss, errors and targets (B, ...) by number, updates by name and by pair."""

    logits: Array
    loss: float
    errors: dict[int, Array]
    targets: dict[int, Array]
    updates: dict[str, Array]
    error_updates: dict[Pair, Array]


def step(net: Network, synapses: Synapses, x: Array, y: Sequence[int], s: Settings) -> Outcome:
    """One step on inputs x (B, ...) and labels y."""
    found, samples = Found(), []
    learnt: dict[Pair, Array] = {}
    for x_b, y_b in zip(x.reshape(len(x), -1), y, strict=True):
        sample = infer(net, synapses, x_b, int(y_b), s)
        samples.append(sample)
        for name, update in updates(net, sample, s).items():
            found.add(name, update / len(x))
        for pair, update in error_updates(synapses, sample, s).items():
            learnt[pair] = learnt.get(pair, 0) + update / len(x)
    logits = np.stack([sample.z[len(net)] for sample in samples])
    loss = sum(value_of(s.loss, z, int(y_b)) for z, y_b in zip(logits, y, strict=True)) / len(x)
    errors, targets = (
        {i: np.stack([side(sample)[i] for sample in samples]) for i in sorted(samples[0].e)}
        for side in (lambda one: one.e, lambda one: one.y)
    )
    return Outcome(logits, loss, errors, targets, found.updates, learnt)
