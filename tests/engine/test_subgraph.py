"""A part of a plan evaluated once more is the function that the forward pass was."""

from typing import Any

import torch
from torch import Tensor, nn

from credit.engine.backward import BackwardPass
from credit.engine.draws import Draws
from credit.engine.inference.subgraph import Stretch
from credit.engine.ops.activations import Activate
from credit.engine.plan import Capabilities, Cuts, Plan


class KeepsBoth(BackwardPass):
    """Backprop that remembers what activations were given and returned."""

    def keeps(self, op: Any) -> set[str]:
        return {"input", "output"}


class Shapely(nn.Module):
    """Reads a shape below the first activation above it, and drops, counts and pools in between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act1 = nn.Conv2d(1, 4, 3, padding=1), nn.Tanh()
        self.drop, self.norm, self.pool = nn.Dropout(0.4), nn.BatchNorm2d(4), nn.MaxPool2d(2)
        self.fc, self.act2, self.head = nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        below = self.conv(x)
        h = self.pool(self.norm(self.drop(self.act1(below))))
        out: Tensor = self.head(self.act2(self.fc(h.view(below.size(0), -1))))
        return out


def test_a_stretch_is_the_function_that_the_forward_pass_was() -> None:
    torch.manual_seed(0)
    model = Shapely().double()
    x = torch.randn(8, 1, 4, 4, dtype=torch.float64)
    plan = Plan(model, Capabilities(repeatable=True, cuts=Cuts(("act1", "act2"), inside=True)), KeepsBoth())
    low, high = (op for op in plan.ops if isinstance(op, Activate))
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    run = plan.run(dict(model.named_parameters()), buffers, Draws(0, 0, x.device))
    with torch.no_grad():
        plan.forward(run, x)
        z, u = low.post(run), high.post(run)
        before = {name: value.clone() for name, value in buffers.items()}
        stretch = Stretch(plan, low.out, high.out)
        torch.testing.assert_close(stretch(run, x, z), u, rtol=1e-9, atol=1e-11)
        # Of one sample alone: neither statistics nor masks are of what it is given.
        moved = z.clone()
        moved[3] += torch.randn(moved[3].shape, dtype=moved.dtype)
        other = stretch(run, x, moved)
    rest = [at for at in range(8) if at != 3]
    torch.testing.assert_close(other[rest], u[rest], rtol=1e-9, atol=1e-11)
    assert not torch.allclose(other[3], u[3])
    assert all(torch.equal(value, before[name]) for name, value in buffers.items())
