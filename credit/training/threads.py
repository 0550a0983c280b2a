"""Choose the CPU threads of a run: one for a small network, torch's default for a large one, by the model's multiply-adds.

torch's threads wait for each other at every op. If another process uses one of their cores, every op waits for the scheduler, and
a small step takes many times as long on two threads as on one. Measured on two cores for one training step of ``bp`` with SGD
(median of 40 to 160 steps, alternating one and two threads); the factor is the time on one thread divided by the time on two:

    ==========================================  =======================  ==============  ==================
    network, batch                              multiply-adds, millions  quiet machine   one core is busy
    ==========================================  =======================  ==============  ==================
    MLP [64, 64] to [256, 256], 128 to 512      7 to 34                  1.05 to 1.27    0.24
    MLP [512, 512] and [1024, 1024], 128        86, 238                  1.6 (238)       0.03, 0.09
    LeNet-5, 512                                349                      1.8             0.07 (at 128), 0.4
    ResNet-8, 16 and 64                         200, 800                 1.5, 1.4        0.2
    PlainConvBN, 32                             4,922                    1.7             0.5
    ==========================================  =======================  ==============  ==================

Below `SMALL` a second thread is at most 1.8 times faster and can be thirty times slower.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from credit.engine.draws import Draws
from credit.rules.base import Rule

SMALL = 10**9
"""Multiply-adds of a forward pass over one batch below which a run uses one thread."""


@dataclass(frozen=True)
class Threads:
    """The CPU threads of a run.

    Attributes:
        count: number of threads; None for torch's default.
        why: the reason, for the result.
    """

    count: int | None
    why: str


def choose_threads(given: int | None, rule: Rule, example: Tensor, batch_size: int) -> Threads:
    """Return the CPU threads of a run, as a function of ``trainer.threads``, the device, the model and the batch size.

    Args:
        given: ``trainer.threads``.
        rule: the run's rule, on its model.
        example: a few inputs (N, ...), on the run's device.
        batch_size: number of examples in a training batch.
    """
    if given is not None:
        return Threads(given, f"trainer.threads={given}")
    if example.device.type != "cpu":
        return Threads(None, f"torch's own number: the run computes on {example.device.type}")
    work = multiply_adds(rule, example) * batch_size // len(example)
    count, told = (1, "one thread below") if work < SMALL else (None, "torch's own number from")
    return Threads(
        count, f"{told} {SMALL:,} multiply-adds: a forward pass over a batch of {batch_size} takes {work:,} of them"
    )


def multiply_adds(rule: Rule, x: Tensor) -> int:
    """Return the multiply-adds of matrix products and convolutions in a forward pass over x (N, ...), without side effects."""
    from torch.utils.flop_counter import FlopCounterMode  # takes a moment to import

    buffers = {name: value.clone() for name, value in rule.model.named_buffers()}
    run = rule.plan.run(rule.effective_params(), buffers, Draws(rule.seed, 0, x.device), rule.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        rule.plan.forward(run, x)
    return int(counter.get_total_flops()) // 2


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set the number of torch's CPU threads while the context lasts; None leaves it unchanged."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
