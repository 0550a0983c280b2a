"""The slow twin of a residual network: convolution as an unfolded matrix, BatchNorm by its Jacobian, max-pooling by its argmax.

See tests/rules/twins.py for the legend.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tests.support.twins import FORWARD, Array, Gate, Signal, as_it_is


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
