"""What the twins' states should be stationary points of, written with autograd: the potentials of the paper, one sample.

Legend: see ``twins_dual``. G_k is the integral of f_k^-1, and G_k^* (its conjugate) that of f_k.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.twins import LEAK
from tests.support.twins_dual import Settings


def _entropy(s: Tensor) -> Tensor:
    return s * s.log() + (1 - s) * (1 - s).log()


G: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda s: s.square() / 2,
    "relu": lambda s: s.square() / 2,
    "leaky_relu": lambda s: torch.where(s > 0, s.square(), s.square() / LEAK) / 2,
    "tanh": lambda s: _entropy((1 + s) / 2),  # (1 + s) log(1 + s) / 2 + (1 - s) log(1 - s) / 2 - log 2
    "sigmoid": _entropy,
}
G_CONJUGATE: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda a: a.square() / 2,
    "relu": lambda a: a.clamp(min=0).square() / 2,
    "leaky_relu": lambda a: torch.where(a > 0, a.square(), a.square() * LEAK) / 2,
    "tanh": lambda a: a.abs() + F.softplus(-2 * a.abs()) - 0.6931471805599453,
    "sigmoid": F.softplus,
}


def layers_of(model: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def loss_of(word: str, s: Tensor, y: int) -> Tensor:
    """l(s) of one sample."""
    if word == "half_sse":
        return (s - F.one_hot(torch.tensor(y), len(s))).square().sum() / 2
    return -F.log_softmax(s, 0)[y]


def _energy(layer: nn.Linear, word: str, s: Tensor, below: Tensor) -> Tensor:
    """E_k(s_k, s_{k-1}) = G_k(s_k) - s_k^T (W s_{k-1} + b)."""
    return G[word](s).sum() - s @ layer(below)


def _words(model: nn.Sequential, activation: str) -> list[str]:
    return [activation] * (len(layers_of(model)) - 1) + ["identity"]


def dual(model: nn.Sequential, activation: str, plus: Sequence[Tensor], minus: Sequence[Tensor], x: Tensor, y: int,
         s: Settings) -> Tensor:  # fmt: skip
    """Eq. 1 with 1 / beta_k before each E_k (Eq. 12), and E_0 = |s_0 - x|^2 / 2 with 1 / beta_1 where s.input_term.

    States from the input's on; without the term they are x.
    """
    mean = [s.alpha_of(k) * p + (1 - s.alpha_of(k)) * m for k, (p, m) in enumerate(zip(plus, minus, strict=True))]
    alpha = s.alpha_of(len(plus) - 1)
    total = alpha * loss_of(s.loss, plus[-1], y) + (1 - alpha) * loss_of(s.loss, minus[-1], y)
    for k, (layer, word) in enumerate(zip(layers_of(model), _words(model, activation), strict=True), 1):
        gap = _energy(layer, word, plus[k], mean[k - 1]) - _energy(layer, word, minus[k], mean[k - 1])
        total = total + gap / s.beta_of(k)
    if s.input_term:
        total = total + ((plus[0] - x).square() - (minus[0] - x).square()).sum() / (2 * s.beta_of(1))
    return total


def adjoint(
    model: nn.Sequential, activation: str, plus: Sequence[Tensor], minus: Sequence[Tensor], y: int, s: Settings
) -> Tensor:
    """Eq. 18 with l times beta, all beta equal, over beta; f_L the identity."""
    beta = s.beta_of(1)
    mean = [s.alpha_of(k) * p + (1 - s.alpha_of(k)) * m for k, (p, m) in enumerate(zip(plus, minus, strict=True))]
    total = loss_of(s.loss, mean[-1], y)
    for k, (layer, word) in enumerate(zip(layers_of(model), _words(model, activation), strict=True), 1):
        inverse = torch.where(mean[k] > 0, mean[k], mean[k] / LEAK) if word == "leaky_relu" else mean[k]
        total = total + (plus[k] - minus[k]) @ (inverse - layer(mean[k - 1])) / beta
    return total


def lifted(model: nn.Sequential, activation: str, states: Sequence[Tensor], y: int, s: Settings) -> Tensor:
    """Eq. 44, LPOM's."""
    total = loss_of(s.loss, states[-1], y)
    for k, (layer, word) in enumerate(zip(layers_of(model), _words(model, activation), strict=True), 1):
        gap = _energy(layer, word, states[k], states[k - 1]) + G_CONJUGATE[word](layer(states[k - 1])).sum()
        total = total + gap / s.beta_of(k)
    return total


def hopfield(
    model: nn.Sequential, activation: str, states: Sequence[Tensor], y: int, nudge: float, loss: str
) -> Tensor:
    """Equilibrium propagation's: the sum of E_k(s_k, s_{k-1}), and ``nudge`` times the loss."""
    total = nudge * loss_of(loss, states[-1], y)
    for k, (layer, word) in enumerate(zip(layers_of(model), _words(model, activation), strict=True), 1):
        total = total + _energy(layer, word, states[k], states[k - 1])
    return total
