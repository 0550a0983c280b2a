"""torch.func: a rule's step as a pure function, mapped over the weights of several networks at once."""

import torch
from digits import network, sets
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

import credit


def step(rule: credit.Rule, params: dict[str, Tensor], x: Tensor, y: Tensor, lr: float = 0.1) -> dict[str, Tensor]:
    """Return the weights of all networks (N, ...) after one step on a batch; the networks share the rule's feedback weights."""
    function, (_, buffers, *_, draws) = rule.functional(x, y)
    updates: dict[str, Tensor] = vmap(lambda own: function(own, buffers, x, y, draws)[2])(params)
    return {name: value - lr * updates[name] for name, value in params.items()}


def main(steps: int = 150, networks: int = 3) -> list[float]:
    """Train networks of several seeds in one mapped step each, and return their test accuracies."""
    train, test = sets()
    models = [network(seed) for seed in range(networks)]
    params, _ = stack_module_state(models)
    params = {name: value.detach() for name, value in params.items()}
    rule = credit.rule("fa", models[0])
    source = torch.Generator().manual_seed(0)
    x, y = train.tensors
    for _ in range(steps):
        chosen = torch.randint(0, len(y), (64,), generator=source)
        params = step(rule, params, x[chosen], y[chosen])
    x, y = test.tensors
    with torch.inference_mode():
        out = vmap(lambda own: functional_call(models[0], own, x))(params)
    found: list[float] = (out.argmax(2) == y).double().mean(1).tolist()
    return found


if __name__ == "__main__":
    print(", ".join(f"{accuracy:.1%}" for accuracy in main()))
