"""Estimate the duration of a run from a few steps on random data of the right shape; no data is loaded, no file written."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from credit.core.config.schema import RunConfig
from credit.data import Spec
from credit.rules.outcome import InferenceDiverged
from credit.training.adversarial import attack
from credit.training.optimization import build_optimizer
from credit.training.prepare import Prepared, prepare, synthetic
from credit.training.threads import threads

STEPS = 3
"""Number of steps timed, after the small ones."""

PROBE = 16
"""Number of examples in the first, small steps."""

LONG_STEP = 1.0
"""Seconds of a step beyond which only the small step is timed and scaled: a large network's time is linear in the batch size."""

START, READING = 0.2, 1e-8
"""Seconds to start a run, and to read one number of its data (1.5 s for CIFAR-10)."""


@dataclass(frozen=True)
class Pace:
    """The times that an estimate is computed from.

    Attributes:
        step: seconds of one training step, update included.
        forward: seconds of the network's forward pass on a batch of the same size.
    """

    step: float
    forward: float


@dataclass(frozen=True)
class Outline:
    """The parts of a prepared run that its duration is computed from, without the network."""

    cfg: RunConfig
    device: torch.device
    spec: Spec
    steps_per_epoch: int
    total_steps: int


def outline(prepared: Prepared) -> Outline:
    """Return the outline of a prepared run, which has no reference to the network."""
    return Outline(prepared.cfg, prepared.device, prepared.spec, prepared.steps_per_epoch, prepared.total_steps)


def estimate(prepared: Prepared) -> float:
    """Return the estimated seconds of a whole run on this machine, with the run's threads (`credit.training.threads`).

    Args:
        prepared: the run; its network is trained for a few steps and must not be used afterwards.
    """
    return seconds(outline(prepared), measure(prepared))


def measure(prepared: Prepared) -> Pace:
    """Return the times of a training step and of a forward pass on random inputs; compiled rules are timed without compilation.

    Args:
        prepared: the run; its network is trained for a few steps and must not be used afterwards.
    """
    with threads(prepared.threads.count):
        return _measured(prepared)


def _measured(prepared: Prepared) -> Pace:
    cfg = prepared.cfg
    if cfg.trainer.compile:
        prepared = prepare(replace(cfg, trainer=replace(cfg.trainer, compile=False)))
    model, rule, spec = prepared.model, prepared.rule, prepared.spec
    optimizer = build_optimizer(cfg.optimizer, model.parameters(), rule.parameters(), rule.feedback_settings)
    moving = attack(rule, cfg.trainer)
    size = min(cfg.data.batch_size, spec.train_size)
    x, y = synthetic(prepared, size)

    def step(x: Tensor) -> None:
        rule.position = 0
        with contextlib.suppress(InferenceDiverged):  # possible on random inputs; the step took about as long
            labels = y[: len(x)]
            rule.step(x if moving is None else moving(x, labels), labels)
        optimizer.step()

    def forward(x: Tensor) -> None:
        with torch.inference_mode():
            model(x)

    clocked(step, x[:PROBE])  # warm-up: memory, and a GPU's libraries
    scale = size / len(x[:PROBE])
    pace = clocked(step, x[:PROBE]) * scale
    if pace > LONG_STEP:
        x = x[:PROBE]
    else:
        scale, pace = 1.0, min(clocked(step, x) for _ in range(STEPS))
    model.eval()
    return Pace(pace, min(clocked(forward, x) for _ in range(2)) * scale)


def seconds(run: Outline, pace: Pace) -> float:
    """Return the estimated seconds of a run: its start, steps and evaluations.

    Args:
        run: the run's outline.
        pace: times measured on this run or on a similar one.
    """
    cfg, spec = run.cfg, run.spec
    epochs = run.total_steps / run.steps_per_epoch
    evaluations = math.floor(epochs / cfg.trainer.eval_every) + (epochs % cfg.trainer.eval_every > 0)
    wrong = cfg.noise.rate * spec.train_size
    batches = (spec.val_size + spec.test_size + wrong) / cfg.data.batch_size + cfg.trainer.bn_batches
    return start(spec) + run.total_steps * pace.step + evaluations * batches * pace.forward


def start(spec: Spec) -> float:
    """Return the estimated seconds before the first step."""
    return START + READING * (spec.train_size + spec.val_size + spec.test_size) * math.prod(spec.shape)


def clocked(work: Callable[[Tensor], None], x: Tensor) -> float:
    """Return the seconds that ``work(x)`` takes, with the device synchronized before and after."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    work(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
