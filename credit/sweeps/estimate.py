"""How long a run will take, from a few real steps on made-up data of the right shape; nothing is loaded or written."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from credit.core.config.schema import RunConfig
from credit.data import Spec
from credit.diagnostics.networks import float_dtype
from credit.rules.outcome import InferenceDiverged
from credit.training.optimization import build_optimizer
from credit.training.prepare import Prepared, prepare
from credit.training.threads import threads

STEPS = 3
"""Steps that are timed, after small ones."""

PROBE = 16
"""Examples of the first, small steps."""

LONG_STEP = 1.0
"""Seconds of a step beyond which the small one has to do, scaled: a large network's time grows with its batch."""

START, READING = 0.2, 1e-8
"""Seconds a run takes besides steps and evaluations: to start, and to read a number of its data (CIFAR-10: 1.5 s)."""


@dataclass(frozen=True)
class Pace:
    """Seconds of one training step, update included, and of one batch of the same size through the network alone."""

    step: float
    forward: float


@dataclass(frozen=True)
class Outline:
    """A prepared run without its network: what its length follows from."""

    cfg: RunConfig
    device: torch.device
    spec: Spec
    steps_per_epoch: int
    total_steps: int


def outline(prepared: Prepared) -> Outline:
    """Return what is left of a prepared run when its network is let go."""
    return Outline(prepared.cfg, prepared.device, prepared.spec, prepared.steps_per_epoch, prepared.total_steps)


def estimate(prepared: Prepared) -> float:
    """Return about how many seconds the whole run takes on this machine, with the run's threads (`credit.training.threads`).

    Args:
        prepared: the run; its network is stepped and of no use afterwards.
    """
    return seconds(outline(prepared), measure(prepared))


def measure(prepared: Prepared) -> Pace:
    """Time a few steps and one evaluation batch on random images; compiled rules are timed as they are uncompiled.

    Args:
        prepared: its network and rule; the network is stepped and of no use afterwards.
    """
    with threads(prepared.threads.count):
        return _measured(prepared)


def _measured(prepared: Prepared) -> Pace:
    cfg = prepared.cfg
    if cfg.trainer.compile:
        prepared = prepare(replace(cfg, trainer=replace(cfg.trainer, compile=False)))
    model, rule, device, spec = prepared.model, prepared.rule, prepared.device, prepared.spec
    optimizer = build_optimizer(cfg.optimizer, model.parameters(), rule.parameters(), rule.own_settings)
    source = torch.Generator().manual_seed(0)
    size = min(cfg.data.batch_size, spec.train_size)
    x = torch.randn(size, *spec.shape, generator=source).to(device, float_dtype(model))
    y = torch.randint(0, spec.classes, (size,), generator=source).to(device)

    def step(x: Tensor) -> None:
        rule.position = 0
        with contextlib.suppress(InferenceDiverged):  # it may on random inputs, and then took about as long
            rule.step(x, y[: len(x)])
        optimizer.step()

    def forward(x: Tensor) -> None:
        with torch.inference_mode():
            model(x)

    clocked(step, x[:PROBE])  # warming up: memory, and a GPU's libraries
    scale = size / len(x[:PROBE])
    pace = clocked(step, x[:PROBE]) * scale
    if pace > LONG_STEP:
        x = x[:PROBE]
    else:
        scale, pace = 1.0, min(clocked(step, x) for _ in range(STEPS))
    model.eval()
    return Pace(pace, min(clocked(forward, x) for _ in range(2)) * scale)


def seconds(run: Outline, pace: Pace) -> float:
    """Return how long a run takes at a pace, its own or that of one like it: the start, steps, evaluations."""
    cfg, spec = run.cfg, run.spec
    epochs = run.total_steps / run.steps_per_epoch
    evaluations = math.floor(epochs / cfg.trainer.eval_every) + (epochs % cfg.trainer.eval_every > 0)
    wrong = cfg.noise.rate * spec.train_size
    batches = (spec.val_size + spec.test_size + wrong) / cfg.data.batch_size + cfg.trainer.bn_batches
    return start(spec) + run.total_steps * pace.step + evaluations * batches * pace.forward


def start(spec: Spec) -> float:
    """Return about how many seconds pass before the first step."""
    return START + READING * (spec.train_size + spec.val_size + spec.test_size) * math.prod(spec.shape)


def clocked(work: Callable[[Tensor], None], x: Tensor) -> float:
    """Return the seconds that ``work(x)`` takes, the device's own work included."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    work(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
