"""Choose whether seeds are trained in one pass or in a process each, by timing steps of the network on the present machine."""

import contextlib
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.rules.outcome import InferenceDiverged
from credit.rules.replicas import Mapped, why_not
from credit.sweeps.estimate import clocked
from credit.training.backends.memory import SPARE, available, needed
from credit.training.optimization import build_optimizer
from credit.training.optimization.probe import not_in_one_pass
from credit.training.prepare import Prepared, prepare, synthetic
from credit.training.threads import threads
from credit.training.warm import warm_alone

BUDGET = 0.5
"""Seconds that building networks, and a mapped step, may take for the measurement: fewer replicas of a large network are timed."""

STEPS = 5
"""Number of steps timed for each alternative; the shortest time is used."""

LONG_STEP = 0.1
"""Seconds of a CPU step beyond which one pass is not faster: it saves the overhead of small ops, not arithmetic."""


@dataclass(frozen=True)
class Choice:
    """The way in which several seeds of a run are trained.

    Attributes:
        mapped: True for passes over several seeds, False for one process a seed.
        why: the reason, as a text.
        speedup: measured seconds with processes divided by seconds with passes; None if nothing was measured.
        chunk: largest number of seeds in one pass that fit in memory.
        room: number of replicas that fit in memory in all, in concurrent passes too; None if the free memory is unknown.
    """

    mapped: bool
    why: str
    speedup: float | None = None
    chunk: int = 1
    room: int | None = None


def choose(cfg: RunConfig, count: int) -> Choice:
    """Return the fastest way to train `count` seeds of a run on this machine; takes about a second.

    A value of ``trainer.replicate`` other than ``auto`` decides without a measurement.

    Args:
        cfg: the run's configuration, with any seed; its `replicas` is ignored.
        count: number of seeds.

    Raises:
        UserError: the run cannot be trained, or ``trainer.replicate=map`` is given for runs that cannot be mapped or do not fit
            in memory.
    """
    wish, cfg = cfg.trainer.replicate, replace(cfg, replicas=1)
    if wish == "processes":
        return Choice(False, "trainer.replicate=processes")
    if count < 2:
        return Choice(False, "there is one seed")
    trainer = replace(cfg.trainer, compile=False)  # compilation would take longer than the measurement
    started = time.perf_counter()
    prepared = prepare(replace(cfg, trainer=trainer))
    building = time.perf_counter() - started
    x, y = _batch(prepared)
    refusal = warm_alone(prepared.rule, prepared.warm) or not_in_one_pass(cfg.optimizer)
    for rule in (prepared.rule, prepared.warm):
        if refusal is None and rule is not None:
            try:
                refusal = why_not(rule, x[:2].contiguous(), y[:2])
            except InferenceDiverged as end:
                refusal = f"on random inputs its inference diverges ({end}): nothing can be tried"
    if refusal is not None:
        if wish == "map":
            advice = "" if "trainer.replicate=" in refusal else ". Write trainer.replicate=auto"
            raise UserError(f"trainer.replicate=map cannot train {count} seeds in one pass: {refusal}{advice}")
        return Choice(False, refusal)
    room = _room(prepared)
    chunk = count if room is None else min(count, room)
    if wish == "map":
        if chunk < count:
            raise UserError(_too_many(prepared, count, chunk))
        return Choice(True, "trainer.replicate=map", None, count, room)
    if chunk < 2:
        return Choice(False, "memory does not hold two replicas in one pass")
    return replace(_measured(prepared, chunk, x, y, building), room=room)


def _room(prepared: Prepared) -> int | None:
    """Return the number of replicas that fit in the free memory; None if the free memory is unknown."""
    free = available(prepared.device)
    if free is None:
        return None
    one, two = needed(prepared, 1), needed(prepared, 2)
    return max(0, int((SPARE * free - (2 * one - two)) / (two - one)))


def _too_many(prepared: Prepared, count: int, fit: int) -> str:
    free = (available(prepared.device) or 0) / 2**30
    return (
        f"replicas={count} in one pass (trainer.replicate=map) would take about {needed(prepared, count) / 2**30:.1f} GiB and "
        f"{SPARE:.0%} of the {free:.1f} GiB free on {prepared.device} may be taken: {fit} fit. Write replicas={max(fit, 1)}, "
        f"a smaller data.batch_size, or trainer.replicate=auto"
    )


def _batch(prepared: Prepared) -> tuple[Tensor, Tensor]:
    """Return a random batch with the run's batch size, shapes and device."""
    size = max(2, min(prepared.cfg.data.batch_size, prepared.spec.train_size))
    return synthetic(prepared, size)


def _measured(prepared: Prepared, chunk: int, x: Tensor, y: Tensor, building: float) -> Choice:
    """Return the choice by the times of one seed's step on one core and of its share of a pass over several seeds."""
    cfg, rule, on_cpu = prepared.cfg, prepared.rule, prepared.device.type == "cpu"
    optimizer = build_optimizer(cfg.optimizer, prepared.model.parameters(), rule.parameters(), rule.feedback_settings)

    def alone(x: Tensor) -> None:
        rule.position = 0
        with contextlib.suppress(InferenceDiverged):  # on random inputs and initial weights: no evidence about the run
            rule.step(x, y)
        optimizer.step()

    with threads(1 if on_cpu else None):
        single = clocked(alone, x)
        if on_cpu and single > LONG_STEP:
            return Choice(False, f"a step of {single:.2g} s has little to gain from a pass")
        single = min(clocked(alone, x) for _ in range(STEPS))
    timed = min(chunk, max(2, int(BUDGET / max(building, single))))
    mapped = Mapped([rule, *(prepare(replace(cfg, seed=cfg.seed + at)).rule for at in range(1, timed))])
    whole = build_optimizer(cfg.optimizer, mapped.weights.values(), mapped.own.values(), rule.feedback_settings)
    xs, ys = torch.stack([x] * timed), torch.stack([y] * timed)

    def together(xs: Tensor) -> None:
        mapped.position = 0
        mapped.step(xs, ys)
        whole.step()

    # Passes run beside each other as processes do, each on one core: times on one core are compared.
    with threads(1 if on_cpu else None):
        clocked(together, xs)  # the first step records the pass
        speedup = single * timed / min(clocked(together, xs) for _ in range(STEPS))
    why = f"a pass is {speedup:.2g} times as fast as processes, core for core (steps of {timed} replicas timed)"
    return Choice(speedup > 1, why, speedup, chunk if speedup > 1 else 1)
