"""Slow twins of the sweep rules in numpy, written from the papers' equations and from nothing of credit's.

Legend (the LISP paper's): z preactivation, h activation, d signal (ascent: the change that is wanted), W weight (out, in),
y label, m margin, N batch size. A twin returns the papers' updates dW, averaged over the batch; `p.grad` is -dW.
One sample at a time, matrices and loops: clarity before speed.
"""

import math
from collections.abc import Callable, Mapping, Sequence

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
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "hardtanh": lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
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


# --- convolution as an unfolded matrix, BatchNorm by its Jacobian, max-pooling by its argmax ---------------------------


def _windows(shape: tuple[int, ...], kernel: tuple[int, int]) -> list[tuple[int, int, slice, slice]]:
    rows, columns = shape[1] - kernel[0] + 1, shape[2] - kernel[1] + 1
    return [(r, c, slice(r, r + kernel[0]), slice(c, c + kernel[1])) for r in range(rows) for c in range(columns)]


def _pad(h: Array, padding: int) -> Array:
    return np.pad(h, ((0, 0), (padding, padding), (padding, padding)))


def conv_forward(W: Array, b: Array, h: Array, padding: int) -> Array:
    """z[:, p] = W_unfolded patch_p + b for one sample (channels, rows, columns)."""
    padded, M = _pad(h, padding), W.reshape(len(W), -1)
    places = _windows(padded.shape, (W.shape[2], W.shape[3]))
    z = np.zeros((len(W), places[-1][0] + 1, places[-1][1] + 1))
    for r, c, rs, cs in places:
        z[:, r, c] = M @ padded[:, rs, cs].ravel() + b
    return z


def conv_backward(W: Array, B: Array, h: Array, d: Array, padding: int) -> tuple[Array, Array, Array]:
    """dW, db and the signal at the input of one sample; B (shape of W) carries the signal back."""
    padded = _pad(h, padding)
    dM, db, back = np.zeros((len(W), W[0].size)), np.zeros(len(W)), np.zeros_like(padded)
    for r, c, rs, cs in _windows(padded.shape, (W.shape[2], W.shape[3])):
        dM += np.outer(d[:, r, c], padded[:, rs, cs].ravel())
        db += d[:, r, c]
        back[:, rs, cs] += (B.reshape(len(B), -1).T @ d[:, r, c]).reshape(W.shape[1:])
    rows, columns = h.shape[1:]
    return dM.reshape(W.shape), db, back[:, padding : padding + rows, padding : padding + columns]


def batchnorm_forward(z: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> Array:
    out = np.empty_like(z)
    for c in range(z.shape[1]):
        v = z[:, c]
        out[:, c] = gamma[c] * (v - v.mean()) / np.sqrt(((v - v.mean()) ** 2).mean() + eps) + beta[c]
    return out


def batchnorm_backward(z: Array, gamma: Array, d: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """dgamma, dbeta as backprop's, and J_BN(d) by (D2) with the matrices 1 1^T / B and x x^T / B written out."""
    dgamma, dbeta, back = np.zeros_like(gamma), np.zeros_like(gamma), np.empty_like(d)
    for c in range(z.shape[1]):
        v, g = z[:, c].ravel(), d[:, c].ravel()
        var = ((v - v.mean()) ** 2).mean()
        x = (v - v.mean()) / math.sqrt(var + eps)
        ones, B = np.ones_like(v), len(v)
        J = np.eye(B) - np.outer(ones, ones) / B - np.outer(x, x) / B
        back[:, c] = (gamma[c] / math.sqrt(var + eps) * (J @ g)).reshape(d[:, c].shape)
        dgamma[c], dbeta[c] = (g @ x) / len(z), g.sum() / len(z)
    return dgamma, dbeta, back


def pool_forward(h: Array, size: int = 2) -> tuple[Array, list[tuple[int, int, int, int, int]]]:
    """Maximum of every size x size window of one sample, and where each came from: (channel, out r, out c, r, c)."""
    rows, columns = h.shape[1] // size, h.shape[2] // size
    out, origin = np.empty((len(h), rows, columns)), []
    for c in range(len(h)):
        for r in range(rows):
            for k in range(columns):
                window = h[c, r * size : (r + 1) * size, k * size : (k + 1) * size]
                i, j = np.unravel_index(int(window.argmax()), window.shape)
                out[c, r, k] = window[i, j]
                origin.append((c, r, k, r * size + int(i), k * size + int(j)))
    return out, origin


# --- the residual network of tests/rules/nets.py ----------------------------------------------------------------------


def residual_updates(
    p: Mapping[str, Array],
    activation: str,
    x: Array,
    y: Sequence[int],
    *,
    signal: Signal,
    gate: Gate,
    normalize: Callable[[Array], Array] = as_it_is,
    feedback: Mapping[str, Array] | None = None,
    direct: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Updates by parameter name of: h1 = act(norm1(stem x)); h2 = act(norm2(block h1) + h1); h3 = act(last pool(h2));
    logits = head h3. Norms are left out where p lacks them. By layer name: `feedback` (shape of W) carries the signal back
    across that layer; `direct` (classes, *shape of its input) makes the signal
    at its input from e in place of what would cross its weights (DFA), all else between being crossed as in backprop."""
    normed, act, N = "norm1.weight" in p, FORWARD[activation], len(x)
    back = {name: (feedback or {}).get(name, p[f"{name}.weight"]) for name in ("stem", "block", "last", "head")}
    sums = {name: np.zeros_like(value) for name, value in p.items()}

    def over_batch(layer: str, h: Array, padding: int) -> Array:
        bias = p.get(f"{layer}.bias", np.zeros(len(p[f"{layer}.weight"])))
        return np.stack([conv_forward(p[f"{layer}.weight"], bias, v, padding) for v in h])

    def conv_sweep(layer: str, h: Array, d: Array, padding: int, first: bool = False) -> Array:
        arrived = []
        for i in range(N):
            dW, db, r = conv_backward(p[f"{layer}.weight"], back[layer], h[i], normalize(d[i]), padding)
            sums[f"{layer}.weight"] += dW / N
            if f"{layer}.bias" in sums:
                sums[f"{layer}.bias"] += db / N
            arrived.append(r)
        return np.stack(arrived) if first else arriving(layer, np.stack(arrived))

    def norm_forward(layer: str, z: Array) -> Array:
        return batchnorm_forward(z, p[f"{layer}.weight"], p[f"{layer}.bias"]) if normed else z

    def norm_sweep(layer: str, z: Array, d: Array) -> Array:
        if not normed:
            return d
        sums[f"{layer}.weight"], sums[f"{layer}.bias"], d = batchnorm_backward(z, p[f"{layer}.weight"], d)
        return d

    def arriving(layer: str, through_weights: Array) -> Array:
        if direct is None:
            return through_weights
        shape = through_weights.shape[1:]
        return np.stack([np.tensordot(e_i, direct[layer], 1).reshape(shape) for e_i in e])

    z1 = over_batch("stem", x, 1)
    u1 = norm_forward("norm1", z1)
    h1 = act(u1)
    z2 = over_batch("block", h1, 1)
    u2 = norm_forward("norm2", z2) + h1
    h2 = act(u2)
    pooled = [pool_forward(v) for v in h2]
    z3 = over_batch("last", np.stack([v for v, _ in pooled]), 0)
    h3 = act(z3)

    logits = [p["head.weight"] @ h.ravel() + p["head.bias"] for h in h3]
    e = [signal(z, y_i) for z, y_i in zip(logits, y, strict=True)]
    d3 = np.empty_like(h3)
    for i in range(N):
        top = normalize(e[i])
        sums["head.weight"] += np.outer(top, h3[i].ravel()) / N
        sums["head.bias"] += top / N
        d3[i] = (back["head"].T @ top).reshape(h3[i].shape)
    d3 = gate(activation, z3, arriving("head", d3))
    at_pool = conv_sweep("last", np.stack([v for v, _ in pooled]), d3, 0)
    d2 = np.zeros_like(h2)
    for i, (_, origin) in enumerate(pooled):
        for c, r, k, row, column in origin:
            d2[i, c, row, column] += at_pool[i, c, r, k]
    d2 = gate(activation, u2, d2)
    d1 = conv_sweep("block", h1, norm_sweep("norm2", z2, d2), 1) + d2
    d1 = gate(activation, u1, d1)
    conv_sweep("stem", x, norm_sweep("norm1", z1, d1), 1, first=True)
    return sums
