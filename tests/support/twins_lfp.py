"""Slow twins of layer-wise feedback propagation in numpy, written from the paper's equations and from nothing of credit's.

Legend (the LFP paper's): a_i input and z_j output of a layer, w_ji weight, z_ij = w_ji a_i contribution (the bias is one more,
of an input that is 1), r_j feedback of output j, d_ji what the weight is given; o logits, y label, B samples.
Every layer of weights is written out as a matrix (out, in), convolutions too, and every contribution stands in a tensor
(B, out, in): clarity before speed. Twins return the paper's updates (ascent; `p.grad` is minus them).

A network is a list of parts, run from first to last; values between them are (B, numbers).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.support.twins import FORWARD

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass
class Settings:
    """Constants of the rule, and the relevance of each layer by name (any other layer: ``relevance``)."""

    relevance: str = "epsilon"
    composite: dict[str, str] = field(default_factory=dict)
    epsilon: float = 1e-6
    alpha: float = 2.0
    beta: float = 1.0
    gamma: float = 0.25
    max_abs: bool = False
    sum_samples: bool = False
    dropout: str = "pass"


@dataclass
class Found:
    """Updates by parameter name, ascent."""

    updates: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, value: Array) -> None:
        self.updates[name] = self.updates.get(name, 0) + value


def signed(z: Array) -> Array:
    """The sign of a stabiliser: +1 at 0."""
    return np.where(z < 0, -1.0, 1.0)


# --- relevance: (contributions Z (B, out, in), feedback r (B, out)) -> C with r_ij = z_ij C_ij ----------------------------


def factors(rule: str, z_ij: Array, r: Array, s: Settings) -> Array:
    z = z_ij.sum(2)
    positive, negative = np.maximum(z_ij, 0).sum(2), np.minimum(z_ij, 0).sum(2)
    if rule == "zero":  # Eq. 3
        return np.broadcast_to(_each(_over(r, z)), z_ij.shape)
    if rule == "epsilon":  # Eq. 8
        return np.broadcast_to(_each(r / (z + signed(z) * s.epsilon)), z_ij.shape)
    if rule == "alphabeta":  # Eq. 10
        up = s.alpha / (positive + signed(positive) * s.epsilon)
        down = -s.beta / (negative + signed(negative) * s.epsilon)
        return np.where(z_ij >= 0, _each(up), _each(down)) * _each(np.sign(z) * r)
    if rule == "zpm":  # Eqs. 12 and A.13: alpha and beta replaced by z+ / (z+ + |z-|) and |z-| / (z+ + |z-|)
        size = positive + np.abs(negative)
        up, down = _over(_over(positive, size), positive), -_over(_over(np.abs(negative), size), negative)
        return np.where(z_ij >= 0, _each(up), _each(down)) * _each(np.sign(z) * r)
    assert rule == "gamma", rule
    # The contributions of the output's own sign count 1 + gamma times, in its stabilised sum as in the shares.
    weight = 1 + s.gamma * np.where(_each(signed(z)) > 0, z_ij > 0, z_ij < 0)
    total = (weight * z_ij).sum(2)
    return weight * _each(r / (total + signed(z) * s.epsilon))


def _each(by_output: Array) -> Array:
    return by_output[:, :, None]


def _over(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is exactly 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


# --- parts ----------------------------------------------------------------------------------------------------------------


class Part:
    """One step of a network; ``forward`` keeps what ``backward`` needs."""

    def forward(self, a: Array) -> Array:
        raise NotImplementedError

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        raise NotImplementedError


class Weights(Part):
    """A linear or convolutional layer: the matrix whose entry (j, i) is the weight number ``tap[j, i]``, 0 where that is -1."""

    def __init__(self, name: str, weight: Array, tap: Whole, bias: Array | None, channel: Whole) -> None:
        self.name, self.weight, self.tap, self.bias, self.channel = name, weight, tap, bias, channel

    def matrix(self) -> Array:
        """(out, in + 1): the last column is the bias."""
        flat = self.weight.ravel()
        inner = np.where(self.tap >= 0, flat[self.tap], 0.0)
        last = np.zeros(len(self.tap)) if self.bias is None else self.bias[self.channel]
        return np.concatenate([inner, last[:, None]], 1)

    def forward(self, a: Array) -> Array:
        self.a = np.concatenate([a, np.ones((len(a), 1))], 1)
        return self.a @ self.matrix().T

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        if s.max_abs and np.abs(r).max() > 0:
            r = r / np.abs(r).max()
        w, a = self.matrix(), self.a[:, None, :]
        z_ij = w * a
        c = factors(s.composite.get(self.name, s.relevance), z_ij, r, s)
        d = (np.abs(w) * a * c).sum(0)  # Eqs. 4, 9, 11 and 13, summed over samples
        if not s.sum_samples:
            d = d / len(r)
        dw, used = np.zeros(self.weight.size), self.tap >= 0
        np.add.at(dw, self.tap[used], d[:, :-1][used])
        found.add(f"{self.name}.weight", dw.reshape(self.weight.shape))
        if self.bias is not None:
            db = np.zeros(len(self.bias))
            np.add.at(db, self.channel, d[:, -1])
            found.add(f"{self.name}.bias", db)
        return (z_ij * c)[:, :, :-1].sum(1)  # r_i = sum_j r_ij


def dense(name: str, weight: Array, bias: Array | None) -> Weights:
    out, into = weight.shape
    return Weights(name, weight, np.arange(out * into).reshape(out, into), bias, np.arange(out))


def conv(name: str, weight: Array, bias: Array | None, shape: tuple[int, int, int], stride: int, pad: int) -> Weights:
    """A convolution of inputs (channels, height, width) as a matrix, one output place and one tap of the kernel at a time."""
    out, channels, kh, kw = weight.shape
    _, height, width = shape
    assert channels == shape[0]
    oh, ow = (height + 2 * pad - kh) // stride + 1, (width + 2 * pad - kw) // stride + 1
    numbers = np.arange(weight.size).reshape(weight.shape)
    places = np.arange(channels * height * width).reshape(shape)
    tap = np.full((out * oh * ow, channels * height * width), -1)
    for j, (o, p, q) in enumerate(np.ndindex(out, oh, ow)):
        for c, u, v in np.ndindex(channels, kh, kw):
            row, column = p * stride + u - pad, q * stride + v - pad
            if 0 <= row < height and 0 <= column < width:
                tap[j, places[c, row, column]] = numbers[o, c, u, v]
    return Weights(name, weight, tap, bias, np.repeat(np.arange(out), oh * ow))


class Activation(Part):
    """Feedback passes activations unchanged."""

    def __init__(self, name: str) -> None:
        self.function: Callable[[Array], Array] = FORWARD[name]

    def forward(self, a: Array) -> Array:
        return self.function(a)

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        return r


def windows(shape: tuple[int, int, int], size: int, stride: int, pad: int) -> list[list[int]]:
    """The numbers of the inputs under each place of a pool, first to last."""
    channels, height, width = shape
    places = np.arange(channels * height * width).reshape(shape)
    oh, ow = (height + 2 * pad - size) // stride + 1, (width + 2 * pad - size) // stride + 1
    found = []
    for c, p, q in np.ndindex(channels, oh, ow):
        under = [(p * stride + u - pad, q * stride + v - pad) for u, v in np.ndindex(size, size)]
        found.append([int(places[c, row, col]) for row, col in under if 0 <= row < height and 0 <= col < width])
    return found


class MaxPool(Part):
    """The winner takes the feedback (the first of equal ones)."""

    def __init__(self, shape: tuple[int, int, int], size: int, stride: int, pad: int = 0) -> None:
        self.windows = windows(shape, size, stride, pad)

    def forward(self, a: Array) -> Array:
        self.shape = a.shape
        winners = [[under[int(np.argmax(one[under]))] for under in self.windows] for one in a]
        self.winners = np.array(winners)
        return np.take_along_axis(a, self.winners, 1)

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        sent = np.zeros(self.shape)
        for b, j in np.ndindex(*r.shape):
            sent[b, self.winners[b, j]] += r[b, j]
        return sent


class AveragePool(Part):
    """One more layer under LFP-epsilon, of equal weights 1 / size^2 (padding counts, and contributes nothing)."""

    def __init__(self, shape: tuple[int, int, int], size: int, stride: int, pad: int = 0) -> None:
        self.windows, self.share = windows(shape, size, stride, pad), 1 / size**2

    def forward(self, a: Array) -> Array:
        self.a = a
        self.mean = np.stack([a[:, under].sum(1) * self.share for under in self.windows], 1)
        return self.mean

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        sent = np.zeros_like(self.a)
        for j, under in enumerate(self.windows):
            divided = r[:, j] / (self.mean[:, j] + signed(self.mean[:, j]) * s.epsilon)
            for i in under:
                sent[:, i] += self.a[:, i] * self.share * divided
        return sent


class Residual(Part):
    """The sum of two branches of one input: each gets its share, under LFP-epsilon."""

    def __init__(self, *branches: Sequence[Part]) -> None:
        self.branches = branches

    def forward(self, a: Array) -> Array:
        self.parts = [run(branch, a) for branch in self.branches]
        self.total = sum(self.parts[1:], self.parts[0])
        return self.total

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        divided = r / (self.total + signed(self.total) * s.epsilon)
        sent = [back(branch, part * divided, s, found) for branch, part in zip(self.branches, self.parts, strict=True)]
        return sum(sent[1:], sent[0])


class Dropout(Part):
    """Units dropped by a given mask (B, numbers), which holds 0 or 1 / (1 - p)."""

    def __init__(self, mask: Array) -> None:
        self.mask = mask

    def forward(self, a: Array) -> Array:
        return a * self.mask

    def backward(self, r: Array, s: Settings, found: Found) -> Array:
        return r * (self.mask if s.dropout == "gradient" else self.mask != 0)


# --- the rule ---------------------------------------------------------------------------------------------------------------


def run(parts: Sequence[Part], a: Array) -> Array:
    for part in parts:
        a = part.forward(a)
    return a


def back(parts: Sequence[Part], r: Array, s: Settings, found: Found) -> Array:
    for part in reversed(parts):
        r = part.backward(r, s, found)
    return r


def sigmoid_feedback(o: Array, y: Whole) -> Array:
    """Eq. 7, one sample and class at a time."""
    r = np.zeros_like(o)
    for b, c in np.ndindex(*o.shape):
        r[b, c] = o[b, c] * (float(c == y[b]) - 1 / (1 + np.exp(-o[b, c])))
    return r


def step(parts: Sequence[Part], x: Array, y: Whole, s: Settings,
         feedback: Callable[[Array, Whole], Array] = sigmoid_feedback) -> tuple[Array, dict[str, Array], Array]:  # fmt: skip
    """One step on inputs x (B, ...): logits, updates by name (ascent), and the feedback at the input, shaped like x."""
    logits = run(parts, x.reshape(len(x), -1))
    found = Found()
    r = back(parts, feedback(logits, y), s, found)
    return logits, found.updates, r.reshape(x.shape)
