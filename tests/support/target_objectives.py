"""The losses of target propagation written out in torch and differentiated by autograd (legend: ``twins_target``)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.support import lra_objectives
from tests.support.twins_target import Settings

Back = Callable[[Tensor, Tensor, Tensor], Tensor]
"""G: (V, c, values of the upper node) -> values of the lower node."""


@dataclass
class Map:
    """A feedback map: its weights, and G."""

    weight: Tensor
    bias: Tensor
    back: Back

    def __call__(self, u: Tensor) -> Tensor:
        return self.back(self.weight, self.bias, u)


def run(model: nn.Module, x: Tensor, put: Mapping[str, Tensor], take: Sequence[str]) -> dict[str, Tensor]:
    """Run a model with values in the place of some modules' outputs; return other modules' outputs, the logits as ``output``."""
    taken: dict[str, Tensor] = {}

    with ExitStack() as hooks:
        for name, value in put.items():
            hook = model.get_submodule(name).register_forward_hook(lambda module, given, out, value=value: value)
            hooks.callback(hook.remove)
        for name in take:
            if name != "output":
                hook = model.get_submodule(name).register_forward_hook(
                    lambda module, given, out, name=name: taken.update({name: out})
                )
                hooks.callback(hook.remove)
        taken["output"] = model(x)
    return taken


def losses(logits: Tensor, y: Tensor, loss: str) -> Tensor:
    """The loss, summed over samples."""
    if loss == "half_sse":
        return 0.5 * (logits - nn.functional.one_hot(y, logits.shape[1])).square().sum()
    return nn.functional.cross_entropy(logits, y, reduction="sum")


def targets(
    model: nn.Module, chain: Sequence[str], maps: Mapping[str, Map], x: Tensor, y: Tensor, s: Settings
) -> dict[str, Tensor]:
    """Targets by name of node."""
    free = {name: value.detach() for name, value in run(model, x, {}, chain).items()}
    top = chain[-1]
    leaf = free[top].clone().requires_grad_()
    logits = leaf if top == "output" else run(model, x, {top: leaf}, ())["output"]
    (pull,) = torch.autograd.grad(losses(logits, y, s.loss), leaf)
    found = {top: free[top] - s.target_step * pull}
    for low, high in zip(chain[-2::-1], chain[:0:-1], strict=True):
        found[low] = maps[low](found[high])
        if s.difference:
            found[low] = free[low] + found[low] - maps[low](free[high])
    return found


def feedback_loss(
    model: nn.Module, low: str, high: str, back: Map, x: Tensor, s: Settings, noise: Mapping[str, Tensor]
) -> Tensor:
    """The mean over samples of what G learns from."""
    free = {name: value.detach() for name, value in run(model, x, {}, (low, high)).items()}
    noisy = free[low] + noise["eps"]
    above = run(model, x, {low: noisy}, (high,))[high].detach()
    if s.feedback_loss == "reconstruction":
        return (back(above) - noisy).square().sum() / len(x)
    u = free[high]
    gain = (noise["eps"] * (back(above) - back(u))).sum()
    return (-2 * gain + (back(u + noise["delta"]) - back(u)).square().sum()) / len(x)


@dataclass
class Outcome:
    """Targets by name of node, updates by name of parameter, of V and c by name of the lower node."""

    targets: dict[str, Tensor]
    updates: dict[str, Tensor]
    feedback: dict[str, tuple[Tensor, Tensor]]


def step(
    model: nn.Module, nodes: Sequence[str], maps: Mapping[str, Map], x: Tensor, y: Tensor, s: Settings,
    noise: Callable[[str, str, int], Tensor],
) -> Outcome:  # fmt: skip
    """One step; ``nodes`` from the lowest up, ``noise`` by (``eps`` or ``delta``, lower node, step), scaled."""
    chain = [*nodes, "output"] if s.first_target == "logits" else list(nodes)
    held = lra_objectives.run(model, nodes, x)
    with torch.no_grad():
        maps = {name: Map(one.weight.clone(), one.bias.clone(), one.back) for name, one in maps.items()}
    wanted = {name: t.detach() for name, t in targets(model, chain, maps, x, y, s).items()}
    objective = sum(((held.z[name] - wanted[name]).square().sum() for name in nodes), x.new_zeros(()))
    if s.first_target == "logits":
        objective = objective + (held.logits - wanted["output"]).square().sum()
    else:
        objective = objective + losses(held.logits, y, s.loss)
    names, ps = zip(*model.named_parameters(), strict=True)
    found = dict(zip(names, torch.autograd.grad(objective / len(x), ps), strict=True))
    feedback = {}
    for low, high in zip(chain, chain[1:], strict=False):
        back = maps[low]
        total = [torch.zeros_like(back.weight), torch.zeros_like(back.bias)]
        for at in range(s.feedback_steps):
            back.weight.requires_grad_()
            back.bias.requires_grad_()
            words = ("eps",) if s.feedback_loss == "reconstruction" else ("eps", "delta")
            loss = feedback_loss(model, low, high, back, x, s, {word: noise(word, low, at) for word in words})
            grads = torch.autograd.grad(loss, (back.weight, back.bias))
            back = Map(
                back.weight.detach() - s.feedback_lr * grads[0],
                back.bias.detach() - s.feedback_lr * grads[1],
                back.back,
            )
            total = [part + grad for part, grad in zip(total, grads, strict=True)]
        feedback[low] = total[0], total[1]
    return Outcome(wanted, found, feedback)
