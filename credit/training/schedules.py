"""The learning rate as a pure function of the step: nothing to save, nothing to step.

A schedule is a function ``(base, step, total, steps_per_epoch, *, option=...)``: ``optimizer.lr``, the steps done before this one,
the steps of the whole run, and those of an epoch. It returns the learning rate of the step.
"""

import inspect
import math

from credit.core import registry
from credit.core.config.schema import ScheduleConfig
from credit.core.errors import UserError


def learning_rate(cfg: ScheduleConfig, base: float, step: int, total: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        cfg: the schedule.
        base: ``optimizer.lr``.
        step: steps done before this one, from 0.
        total: steps of the whole run.
        steps_per_epoch: turns the schedule's epochs into steps.

    Raises:
        UserError: a user's schedule that returns no rate.
    """
    schedule = registry.find("schedule", cfg.kind, key="schedule").load()
    options = {one.name for one in inspect.signature(schedule).parameters.values() if one.kind is one.KEYWORD_ONLY}
    rate = schedule(base, step, total, steps_per_epoch, **{name: getattr(cfg, name) for name in options})
    if not isinstance(rate, int | float) or not 0 <= rate < math.inf:
        raise UserError(
            f"schedule={cfg.kind} returned {rate!r} for step {step} of {total}; a learning rate is a number from 0 on"
        )
    return rate


def constant(base: float, step: int, total: int, steps_per_epoch: int) -> float:
    """Return ``optimizer.lr``."""
    return base


def step(
    base: float, step: int, total: int, steps_per_epoch: int, *, milestones: list[float], unit: str, gamma: float
) -> float:
    """Return ``optimizer.lr`` times gamma for each milestone passed."""
    # The small allowance keeps a milestone such as 0.3 epochs of 10 steps on step 3.
    scale = steps_per_epoch if unit == "epochs" else 1
    passed = sum(step + 1e-9 >= milestone * scale for milestone in milestones)
    return base * gamma**passed


def cosine(base: float, step: int, total: int, steps_per_epoch: int, *, final_lr: float) -> float:
    """Return half a cosine from ``optimizer.lr`` to final_lr over the run."""
    along = min(step / max(total, 1), 1.0)
    return final_lr + 0.5 * (base - final_lr) * (1 + math.cos(math.pi * along))


def warmup_cosine(
    base: float, step: int, total: int, steps_per_epoch: int, *, warmup_epochs: float, initial_lr: float, final_lr: float,
    decay_epochs: float | None,
) -> float:  # fmt: skip
    """Return a line from initial_lr up to ``optimizer.lr``, then half a cosine down to final_lr."""
    warmup = round(warmup_epochs * steps_per_epoch)
    if step < warmup:
        return initial_lr + (base - initial_lr) * (step + 1) / warmup
    end = total if decay_epochs is None else round(decay_epochs * steps_per_epoch)
    return cosine(base, step - warmup, end - warmup, steps_per_epoch, final_lr=final_lr)


def warmup_steps(cfg: ScheduleConfig, steps_per_epoch: int) -> int:
    """Return how many steps the learning rate rises for."""
    return round(cfg.warmup_epochs * steps_per_epoch)
