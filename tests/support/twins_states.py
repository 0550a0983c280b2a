"""Networks of states for the slow twins of dual and equilibrium propagation: numpy, one sample, one neuron at a time.

Legend (the dual propagation paper's): s_k state, f_k its activation, a_k what it is the activation of, W_{k-1} the linear map
from the states below to a_k; states are numbered 1..L, L being the logits (f_L the identity) and 0 the input.

A network is a list of nodes, node k - 1 being state k: a_k is the sum of its branches, each a chain of linear parts from one
state below (residual networks have several). Nothing here is credit's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.support import twins_lfp
from tests.support.twins import FORWARD

Array = NDArray[np.float64]
Shape3 = tuple[int, int, int]


@dataclass
class Found:
    """Updates by parameter name, descent."""

    updates: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, value: Array) -> None:
        self.updates[name] = self.updates.get(name, 0) + value


class Part(ABC):
    """One linear step of a branch. ``forward`` remembers its input, and a max-pool its switches, until it is called again."""

    @abstractmethod
    def forward(self, v: Array) -> Array:
        """The outputs at v."""

    @abstractmethod
    def back(self, d: Array) -> Array:
        """What outputs d send to the input: the transpose, with the switches of the last ``forward``."""

    def update(self, d: Array, found: Found) -> None:
        """Add the derivative of d . output by the parameters, at the input of the last ``forward``."""
        return  # most parts have none


class Weights(Part):
    """A dense layer or a convolution; ``feedback`` is a layer whose weights take W's place in W^T."""

    def __init__(self, layer: twins_lfp.Weights, feedback: twins_lfp.Weights | None = None) -> None:
        self.layer = layer
        whole = layer.matrix()
        self.w, self.b = whole[:, :-1], whole[:, -1]
        self.down = self.w if feedback is None else feedback.matrix()[:, :-1]

    def forward(self, v: Array) -> Array:
        self.v = v
        return np.array([self.w[j] @ v + self.b[j] for j in range(len(self.w))])

    def back(self, d: Array) -> Array:
        return np.array([self.down[:, i] @ d for i in range(self.down.shape[1])])

    def update(self, d: Array, found: Found) -> None:
        dw, db = np.zeros(self.layer.weight.size), np.zeros(int(self.layer.channel.max()) + 1)
        for j in range(len(d)):
            for i in np.flatnonzero(self.layer.tap[j] >= 0):
                dw[self.layer.tap[j, i]] += d[j] * self.v[i]
            db[self.layer.channel[j]] += d[j]
        found.add(f"{self.layer.name}.weight", dw.reshape(self.layer.weight.shape))
        if self.layer.bias is not None:
            found.add(f"{self.layer.name}.bias", db)


class Scale(Part):
    """BatchNorm with fixed statistics on images: each channel (v - mean) / deviation times weight, plus bias."""

    def __init__(self, name: str, weight: Array, bias: Array, mean: Array, deviation: Array, places: int) -> None:
        self.name = name
        self.weight, self.bias, self.mean, self.deviation = (
            np.repeat(part, places) for part in (weight, bias, mean, deviation)
        )
        self.channel = np.repeat(np.arange(len(weight)), places)

    def forward(self, v: Array) -> Array:
        self.v = (v - self.mean) / self.deviation
        return self.v * self.weight + self.bias

    def back(self, d: Array) -> Array:
        return d * self.weight / self.deviation

    def update(self, d: Array, found: Found) -> None:
        for name, values in (("weight", d * self.v), ("bias", d)):
            found.add(f"{self.name}.{name}", np.bincount(self.channel, values).astype(np.float64))


class MaxPool(Part):
    """The first of the largest inputs of a window is passed on."""

    def __init__(self, shape: Shape3, size: int, stride: int, pad: int = 0) -> None:
        self.windows, self.count = twins_lfp.windows(shape, size, stride, pad), int(np.prod(shape))

    def forward(self, v: Array) -> Array:
        self.winners = [under[int(np.argmax(v[under]))] for under in self.windows]
        return v[self.winners]

    def back(self, d: Array) -> Array:
        sent = np.zeros(self.count)
        for j, i in enumerate(self.winners):
            sent[i] += d[j]
        return sent


class AveragePool(Part):
    """The mean of a window, padding counted."""

    def __init__(self, shape: Shape3, size: int, stride: int, pad: int = 0) -> None:
        self.windows, self.count = twins_lfp.windows(shape, size, stride, pad), int(np.prod(shape))
        self.share = 1 / size**2

    def forward(self, v: Array) -> Array:
        return np.array([self.share * sum(v[i] for i in under) for under in self.windows])

    def back(self, d: Array) -> Array:
        sent = np.zeros(self.count)
        for j, under in enumerate(self.windows):
            for i in under:
                sent[i] += self.share * d[j]
        return sent


@dataclass
class Branch:
    """A chain of parts from state ``source`` to a node."""

    source: int
    parts: Sequence[Part]

    def forward(self, v: Array) -> Array:
        for part in self.parts:
            v = part.forward(v)
        return v

    def back(self, d: Array) -> Array:
        for part in reversed(self.parts):
            d = part.back(d)
        return d

    def update(self, d: Array, found: Found) -> None:
        for part in reversed(self.parts):
            part.update(d, found)
            d = part.back(d)


@dataclass
class Node:
    """A state: the activation of the sum of its branches."""

    branches: Sequence[Branch]
    activation: str = "identity"

    def below(self, states: Sequence[Array]) -> Array:
        """a_k at these states."""
        parts = [branch.forward(states[branch.source]) for branch in self.branches]
        return sum(parts[1:], parts[0])

    def f(self, a: Array) -> Array:
        return np.asarray(FORWARD[self.activation](a))


Network = Sequence[Node]


def above(net: Network, k: int) -> list[tuple[int, Branch]]:
    """The branches that read state k, each with the number of the state that it goes to."""
    return [(j, branch) for j, node in enumerate(net, 1) for branch in node.branches if branch.source == k]


def predict(net: Network, x: Array) -> list[Array]:
    """The states of one ordinary forward pass, the input first."""
    states = [x]
    for node in net:
        states.append(node.f(node.below(states)))
    return states


def residual_of(loss: str, s: Array, y: int) -> Array:
    """l'(s) of one sample: s - onehot(y) of half the sum of squares, softmax(s) - onehot(y) of the cross-entropy."""
    target = np.zeros_like(s)
    target[y] = 1.0
    if loss == "half_sse":
        return s - target
    powers = np.exp(s - s.max())
    return powers / powers.sum() - target


def value_of(loss: str, s: Array, y: int) -> float:
    """l(s) of one sample."""
    if loss == "half_sse":
        return 0.5 * float((residual_of(loss, s, y) ** 2).sum())
    return float(np.log(np.exp(s - s.max()).sum()) + s.max() - s[y])


def chain(parts: Sequence[Sequence[Part]], activation: str) -> list[Node]:
    """A network without branches: parts[k - 1] lead from state k - 1 to state k."""
    nodes = [Node([Branch(k, one)], activation) for k, one in enumerate(parts)]
    return [*nodes[:-1], Node(nodes[-1].branches)]
