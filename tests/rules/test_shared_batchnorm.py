"""BatchNorm over shares of a batch: updates and running statistics are those of the whole batch, in float64.

Threads stand in for processes: each computes one share of unequal size with a rule and a model of its own.
"""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.engine.draws import Share
from credit.rules.api import rule as make_rule
from credit.rules.base import OWN, Rule
from credit.rules.outcome import Computed, Step

SIZES = (4, 1, 2)


class Exchange:
    """Collects one value of each thread."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(len(SIZES), timeout=10)
        self._values: list[Tensor] = []

    def gathered(self, value: Tensor) -> Tensor:
        if self._barrier.wait() == 0:
            self._values = []
        self._barrier.wait()
        self._values.append(value)
        self._barrier.wait()
        return torch.stack(self._values)


class Threads:
    """A share of each batch, of those that threads compute at the same time."""

    def __init__(self, exchange: Exchange, share: Share) -> None:
        self._gathered, self._share, self.across = exchange.gathered, share, self

    def sum(self, value: Tensor) -> Tensor:
        return self._gathered(value).sum(0)

    def maximum(self, value: Tensor) -> Tensor:
        return self._gathered(value).amax(0)

    def updates(self, rule: Rule, x: Tensor, y: Tensor) -> Computed:
        rule.share = self._share
        return rule.updates(x[rule.share.start : rule.share.stop], y[rule.share.start : rule.share.stop], OWN)


def mlp(norm: type[nn.Module] = nn.BatchNorm1d, **options: Any) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), norm(6, **options), nn.ReLU(), nn.Linear(6, 4), norm(4, affine=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4, 3)).double(), 3 + torch.randn(sum(SIZES), 5, dtype=torch.float64)


def convolutions() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.BatchNorm2d(3)]
    net = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 3))
    return net.double(), torch.randn(sum(SIZES), 2, 8, 8, dtype=torch.float64)


NETS = {
    "mlp": mlp,
    "cumulative": lambda: mlp(momentum=None),
    "no running statistics": lambda: mlp(track_running_stats=False),
    "convolutions": convolutions,
}
RULES: dict[str, dict[str, Any]] = {
    "bp": {}, "lisp_margin": {}, "lisp_raw": {"normalizer": "max_abs"}, "lfp_epsilon": {"batchnorm": "epsilon"},
    "lfp_zpm": {"batchnorm": "folded"}, "dfa": {}, "fa": {}, "dtp": {}, "rec_lra": {"workers": 2}, "jam_full": {},
}  # fmt: skip
FAST = {("bp", "mlp"), ("bp", "convolutions"), ("bp", "cumulative"), ("lfp_zpm", "convolutions"), ("rec_lra", "mlp")}
CASES = [
    pytest.param(rule, net, marks=[] if (rule, net) in FAST else pytest.mark.slow) for rule in RULES for net in NETS
]


def shared(rule: Rule, x: Tensor, y: Tensor) -> list[tuple[Rule, Step]]:
    """Return each share's copy of a rule after its step, and the step's outcome."""
    exchange, starts, copies = Exchange(), [0, *accumulate(SIZES)], [copy.deepcopy(rule) for _ in SIZES]
    for own, start, stop in zip(copies, starts, starts[1:], strict=False):
        own.sharing = Threads(exchange, Share(start, stop, len(x)))
    with ThreadPoolExecutor(len(SIZES)) as pool:
        steps = pool.map(lambda own: own.step(x, y, transform=False), copies)
        return list(zip(copies, steps, strict=True))


class Centred(nn.Module):
    """Subtracts the batch's mean by an op that knows of no shares."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


def test_a_network_that_mixes_samples_by_itself_is_refused() -> None:
    x = torch.randn(4, 5)
    make_rule("bp", nn.Linear(5, 3)).check_share(x, slice(0, 2))
    with pytest.raises(
        UserError, match="the outputs of Sequential for a sample depend on the other samples of the batch"
    ):
        make_rule("bp", nn.Sequential(nn.Linear(5, 3), Centred())).check_share(x, slice(0, 2))


def gradients(rule: Rule) -> dict[str, Tensor]:
    """Return the descent directions of the network's and the rule's own parameters, by name."""
    return {name: p.grad for name, p in rule._all_parameters().items() if p.grad is not None}


@pytest.mark.parametrize(("name", "net"), CASES)
def test_shares_add_up_to_the_whole_batch(name: str, net: str) -> None:
    model, x = NETS[net]()
    y = torch.arange(len(x)) % 3
    rule = make_rule(name, model, precision="float64", example=x, **RULES[name])
    done, whole = shared(rule, x, y), rule.step(x, y, transform=False)
    parts = [gradients(own) for own, _ in done]
    for parameter, update in gradients(rule).items():
        found = [part[parameter] * (size / len(x)) for part, size in zip(parts, SIZES, strict=True)]
        torch.testing.assert_close(torch.stack(found).sum(0), update, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.cat([step.logits for _, step in done]), whole.logits, rtol=1e-9, atol=1e-12)
    for own, _ in done:
        torch.testing.assert_close(dict(own.model.named_buffers()), dict(model.named_buffers()), rtol=1e-9, atol=1e-12)
