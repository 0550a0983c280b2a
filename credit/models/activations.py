"""Elementwise activations by name, the two whose derivative is zero wherever it exists, and the identity."""

from collections.abc import Callable

import torch
from torch import nn

from credit.core.errors import UserError, nearest


class Step(nn.Module):
    """Heaviside step: 1 where z > 0, else 0 (so 0 at exactly 0); same shape and dtype as z.

    Autograd's gradient through it is zero everywhere: only a rule with a gate of its own can train below it.
    """

    activation_kind = "step"  # the engine's name for it

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        # sign and clamp, not a comparison: the output stays in autograd's graph, with gradient zero instead of none.
        return torch.sign(z).clamp(min=0.0)


class Sign(nn.Module):
    """Sign: -1, 0 or 1 with sign(0) = 0; same shape and dtype as z. Autograd's gradient through it is zero."""

    activation_kind = "sign"  # the engine's name for it

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sign(z)


class Identity(nn.Identity):
    """The identity as an activation: z itself. A rule's gate acts on it, which it does not on torch's ``nn.Identity``,
    the usual stand-in for a layer that is left out."""

    activation_kind = "identity"  # the engine's name for it


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "identity": Identity,
    "step": Step,
    "sign": Sign,
}


def names() -> list[str]:
    """Return the names :func:`activation` accepts."""
    return list(_MODULES)


def activation(name: str) -> nn.Module:
    """Return a fresh module of the named activation, with torch's default constants and never in place.

    Raises:
        UserError: unknown name; the message gives the nearest valid one.
    """
    if name not in _MODULES:
        raise UserError(f"arch.activation={name!r}: there is no activation of this name; {nearest(name, _MODULES)}")
    return _MODULES[name]()
