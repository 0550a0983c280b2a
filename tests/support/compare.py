"""A rule's step under `bp` compared with autograd on an equal copy of the model."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.randint(0, 4, (8,), generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    """Two linear layers; ``run(model, x)`` is the forward pass, ``init(model)`` adds what it needs."""

    def __init__(self, run: Callable[[Any, Tensor], Any], init: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.a, self.c, self.run = nn.Linear(6, 6), nn.Linear(6, 4), run
        if init is not None:
            init(self)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def net(run: Callable[[Any, Tensor], Any], init: Callable[[Any], Any] | None = None) -> Net:
    torch.manual_seed(0)
    return Net(run, init).double()


def equals_autograd(model: nn.Module, rule: Any = None, x: Tensor = X, y: Tensor = Y, **options: Any) -> None:
    """Assert that a step gives autograd's logits, gradients and buffers, to 1e-9 in float64."""
    same = copy.deepcopy(model)
    rule = credit.rule("bp", model, precision="float64", **options) if rule is None else rule
    step = rule.step(x, y)
    for p in same.parameters():
        p.grad = None
    out = same(x)
    F.cross_entropy(out, y).backward()
    torch.testing.assert_close(step.logits, out.detach(), rtol=1e-9, atol=1e-12)
    ours = dict(model.named_parameters())
    assert any(p.grad is not None for p in same.parameters())
    for name, p in same.named_parameters():
        mine = ours[name].grad
        assert (mine is None) == (p.grad is None), name
        if mine is not None and p.grad is not None:
            torch.testing.assert_close(mine, p.grad, rtol=1e-9, atol=1e-12, msg=name)
    for (name, buffer), (_, other) in zip(model.named_buffers(), same.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-9, atol=1e-12, msg=name)


def refusal(model: nn.Module, **options: Any) -> str:
    """Return the words in which a rule refuses a model, at the latest at its first step, which has written nothing."""
    state = {name: value.clone() for name, value in model.state_dict().items() if type(value) is Tensor}
    with pytest.raises(UserError) as caught:
        credit.rule("bp", model, precision="float64", **options).step(X, Y)
    assert all(getattr(p, "grad", None) is None for p in model.parameters())
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items())
    return str(caught.value)
