"""Slow twins of the sweep rules in numpy, written from the papers' equations and from nothing of credit's.

Legend (the LISP paper's): z preactivation, h activation, d signal (ascent: the change that is wanted), W weight (out, in),
y label, m margin, N batch size. A twin returns the papers' updates dW, averaged over the batch; `p.grad` is -dW.
One sample at a time, matrices and loops: clarity before speed.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Signal = Callable[[Array, int], Array]
Gate = Callable[[str, Array, Array], Array]

# --- output signals: (logits of one sample, its label) -> d of that sample --------------------------------------------


def violations(margin: float = 1.0) -> Signal:
    """All violated constraints, LISP Eq. 2."""

    def signal(z: Array, y: int) -> Array:
        d = np.zeros_like(z)
        for j in range(len(z)):
            v = margin - (z[y] - z[j])
            if j != y and v > 0:
                d[j] = -v
                d[y] += v
        return d

    return signal


def worst_violation(margin: float = 1.0) -> Signal:
    """LISP-margin: the largest violation alone; of equal ones, the first class."""

    def signal(z: Array, y: int) -> Array:
        d = np.zeros_like(z)
        worst, size = -1, 0.0
        for j in range(len(z)):
            v = margin - (z[y] - z[j])
            if j != y and v > size:
                worst, size = j, v
        if worst >= 0:
            d[y], d[worst] = size, -size
        return d

    return signal


def cross_entropy(z: Array, y: int) -> Array:
    """LISP-CE: onehot(y) - softmax(z), the negative gradient of the cross-entropy."""
    powers = np.array([math.exp(v - z.max()) for v in z])
    d = -powers / powers.sum()
    d[y] += 1.0
    return d


# --- activations: forward, derivative, the indicator of local strict increase, the inverse ----------------------------

LEAK = 0.01  # torch's default slope of leaky ReLU

FORWARD: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, LEAK * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "hardtanh": lambda z: np.clip(z, -1, 1),
    "step": lambda z: np.where(z > 0, 1.0, 0.0),
    "sign": np.sign,
}
DERIVATIVE: dict[str, Callable[[Array], Array]] = {
    "identity": np.ones_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, LEAK),
    "elu": lambda z: np.exp(np.minimum(z, 0)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "hardtanh": lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
    "step": np.zeros_like,
    "sign": np.zeros_like,
}
INDICATOR: dict[str, Callable[[Array], Array]] = {
    "identity": np.ones_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": np.ones_like,
    "tanh": np.ones_like,
    "sigmoid": np.ones_like,
    "hardtanh": lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
    "step": np.zeros_like,
    "sign": np.zeros_like,
}


def derivative(name: str, z: Array, d: Array) -> Array:
    """Backprop's gate: d * act'(z)."""
    return d * DERIVATIVE[name](z)


def responsive(name: str, z: Array, d: Array) -> Array:
    """LISP's gate: d * Pi(z), step and sign overridden to 1 (Eq. 4 and section 2)."""
    return d if name in ("step", "sign") else d * INDICATOR[name](z)


def responsive_without_override(name: str, z: Array, d: Array) -> Array:
    """LISP's gate with Pi of step and sign as it is: 0."""
    return d * INDICATOR[name](z)


def straight_through(name: str, z: Array, d: Array) -> Array:
    """The identity through step and sign (Bengio et al. 2013), backprop elsewhere."""
    return d if name in ("step", "sign") else derivative(name, z, d)


def straight_through_clipped(name: str, z: Array, d: Array) -> Array:
    """Hubara et al. 2016: the straight-through signal, 0 where abs(z) > 1."""
    return d * (np.abs(z) <= 1) if name in ("step", "sign") else derivative(name, z, d)


def inverse(scale: float = 1.0, clamp: float = 1e-3) -> Gate:
    """LISP Appendix G: (act^-1(h + scale d) - act^-1(h)) / scale, with h and h + scale d kept a share `clamp` of the range
    of act inside it. Nothing arrives at a unit that does not respond."""
    ranges = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0)}
    undo: dict[str, Callable[[Array], Array]] = {
        "tanh": lambda h: np.log((1 + h) / (1 - h)) / 2,
        "sigmoid": lambda h: np.log(h / (1 - h)),
        "leaky_relu": lambda h: np.where(h > 0, h, h / LEAK),
    }

    def gate(name: str, z: Array, d: Array) -> Array:
        h = FORWARD[name](z)
        before, after = h, h + scale * d
        if name in ranges:
            low, high = ranges[name]
            edge = clamp * (high - low)
            before, after = (np.clip(v, low + edge, high - edge) for v in (before, after))
        back = undo.get(name, lambda h: h)  # ReLU's inverse is the identity on positive reals
        return (back(after) - back(before)) / scale * INDICATOR[name](z)

    return gate


def unit_rms(d: Array) -> Array:
    """D1 for one sample: d over the root of its mean square; a zero signal stays zero."""
    size = math.sqrt(sum(float(v) ** 2 for v in d.ravel()) / d.size)
    return d / size if size > 0 else d


def as_it_is(d: Array) -> Array:
    return d


# --- dense networks ---------------------------------------------------------------------------------------------------


def dense_updates(
    weights: Sequence[Array],
    biases: Sequence[Array],
    activation: str,
    x: Array,
    y: Sequence[int],
    *,
    signal: Signal,
    gate: Gate,
    normalize: Callable[[Array], Array] = as_it_is,
    feedback: Sequence[Array] | None = None,
    direct: Sequence[Array] | None = None,
) -> tuple[list[Array], list[Array]]:
    """dW and db of every layer (LISP Eq. 3 and 4, D1). `feedback[l]` (out, in) takes the place of W of layer l on the way
    back (FA and its kin); `direct[l]` (width of layer l, classes) brings e to hidden layer l at once (DFA)."""
    dW, db = [np.zeros_like(W) for W in weights], [np.zeros_like(b) for b in biases]
    back = weights if feedback is None else feedback
    for x_i, y_i in zip(x, y, strict=True):
        h, z = [x_i], []
        for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
            z.append(W @ h[-1] + b)
            h.append(z[-1] if layer == len(weights) - 1 else FORWARD[activation](z[-1]))
        e = d = signal(z[-1], y_i)
        for layer in reversed(range(len(weights))):
            d = normalize(d)
            dW[layer] += np.outer(d, h[layer]) / len(x)
            db[layer] += d / len(x)
            if layer > 0:
                arriving = back[layer].T @ d if direct is None else direct[layer - 1] @ e
                d = gate(activation, z[layer - 1], arriving)
    return dW, db
