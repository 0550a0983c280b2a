"""What recursive local representation alignment descends, written out in torch and differentiated by autograd.

The network runs with the output of every node that has a target cut off, so that what autograd finds is each segment's own:
the derivative of sum_i <e_i, h_i> / B (local) or sum_i <e_i, z_i> / B (backprop), e_i held. Errors are derivatives of the
discrepancy kappa_i (||z_i - y_i||_p)^q / q by z_i (the paper's Eq. 2, whose factor q the algorithms drop), y_i held.
Error synapses descend gamma <z_i, E e_j> / B.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.support.twins_lra import Settings

Carry = Callable[[Tensor, Tensor], Tensor]
"""(weight of E, e_j) -> E e_j, shaped like a batch of node i."""


def densely(weight: Tensor, e: Tensor, shape: Sequence[int] = ()) -> Tensor:
    """A matrix (units of i, units of j); ``shape`` is a sample's of node i."""
    d = e.flatten(1) @ weight.T
    return d.reshape(len(e), *shape) if shape else d


@dataclass
class Held:
    """A run: logits, and of every node with a target its input and output, of which nothing above knows."""

    logits: Tensor
    h: dict[str, Tensor]
    z: dict[str, Tensor]


def run(model: nn.Module, nodes: Sequence[str], x: Tensor) -> Held:
    """Run a model with the outputs of some modules cut off."""
    held = Held(x, {}, {})
    hooks = []
    for name in nodes:

        def hook(module: nn.Module, given: tuple[Tensor, ...], out: Tensor, name: str = name) -> Tensor:
            # Copies: nothing that an activation in place could overwrite.
            held.h[name], held.z[name] = given[0], out
            return out.detach()

        hooks.append(model.get_submodule(name).register_forward_hook(hook))
    held.logits = model(x)
    for one in hooks:
        one.remove()
    return held


def discrepancy(z: Tensor, y: Tensor, kappa: float, p: float, q: float) -> Tensor:
    """Eq. 2's term of one node over q, summed over samples."""
    return kappa * (torch.linalg.vector_norm((z - y).flatten(1), p, dim=1) ** q / q).sum()


def error(z: Tensor, y: Tensor, kappa: float, s: Settings) -> Tensor:
    """e of one node; samples at their target have none."""
    away = (z != y).flatten(1).any(1)
    e, leaf = torch.zeros_like(z), z.detach()[away].requires_grad_()
    if len(leaf):
        (e[away],) = torch.autograd.grad(discrepancy(leaf, y[away], kappa, s.p, s.q), leaf)
    return e


@dataclass
class Outcome:
    """Errors and targets by name of node, updates by name of parameter, error synapses' by (target, source)."""

    logits: Tensor
    errors: dict[str, Tensor]
    targets: dict[str, Tensor]
    updates: dict[str, Tensor]
    error_updates: dict[tuple[str, str], Tensor]


def step(
    model: nn.Module,
    connectivity: Mapping[str, Sequence[str]],
    synapses: Mapping[tuple[str, str], tuple[Tensor, Carry]],
    x: Tensor,
    y: Tensor,
    s: Settings,
) -> Outcome:
    """One step; ``connectivity`` gives the sources of every node with a target, by its name, behind its sources.

    Of ``s``, what says which node has which source is not read.
    """
    held = run(model, list(connectivity), x)
    onehot = nn.functional.one_hot(y, held.logits.shape[1]).to(x.dtype)
    out = held.logits.detach() if s.loss == "half_sse" else torch.softmax(held.logits.detach(), 1)
    kappas = s.kappas([*held.h, "output"])  # hooks ran in order of execution
    errors = {"output": error(out, onehot, kappas["output"], s)}
    targets, objective = {"output": onehot}, (errors["output"] * held.logits).sum()
    learnt: dict[tuple[str, str], Tensor] = {}
    for i, given in connectivity.items():
        h, z = held.h[i].detach(), held.z[i].detach()
        weights = {j: synapses[i, j][0].detach().requires_grad_() for j in given}
        d = sum((synapses[i, j][1](weights[j], errors[j]) for j in given), torch.zeros_like(h))
        targets[i] = model.get_submodule(i)(h - s.beta * d.detach())
        errors[i] = error(z, targets[i], kappas[i], s)
        objective = objective + (errors[i] * (held.h[i] if s.inner == "local" else held.z[i])).sum()
        for j, grad in zip(
            given, torch.autograd.grad(s.gamma * (z * d).sum() / len(x), list(weights.values())), strict=True
        ):
            learnt[i, j] = grad
    names, ps = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(objective / len(x), ps)
    return Outcome(held.logits.detach(), errors, targets, dict(zip(names, found, strict=True)), learnt)
