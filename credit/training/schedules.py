"""Learning-rate schedules: pure functions of the step, without state.

A schedule is a function ``(base, step, total, steps_per_epoch, *, option=...)`` of ``optimizer.lr``, the number of steps done, the
numbers of steps of the whole run and of an epoch. It returns the learning rate of the step.
"""

import inspect
import math

from credit.core import registry
from credit.core.config.schema import ScheduleConfig
from credit.core.errors import UserError


def learning_rate(cfg: ScheduleConfig, base: float, step: int, total: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        cfg: the schedule's settings.
        base: the base learning rate, ``optimizer.lr``.
        step: number of steps done, from 0.
        total: number of steps of the whole run.
        steps_per_epoch: number of steps of an epoch.

    Raises:
        UserError: the schedule returned something other than a finite number >= 0.
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
    """Return the base learning rate at every step."""
    return base


def step(
    base: float, step: int, total: int, steps_per_epoch: int, *, milestones: list[float], unit: str, gamma: float
) -> float:
    """Return the base learning rate times ``gamma`` to the number of milestones passed (in epochs or steps, by ``unit``)."""
    # The tolerance keeps a milestone such as 0.3 epochs of 10 steps at step 3.
    scale = steps_per_epoch if unit == "epochs" else 1
    passed = sum(step + 1e-9 >= milestone * scale for milestone in milestones)
    return base * gamma**passed


def cosine(base: float, step: int, total: int, steps_per_epoch: int, *, final_lr: float) -> float:
    """Return cosine annealing from the base learning rate to ``final_lr`` over the run (Loshchilov and Hutter 2017, one cycle)."""
    along = min(step / max(total, 1), 1.0)
    return final_lr + 0.5 * (base - final_lr) * (1 + math.cos(math.pi * along))


def warmup_cosine(
    base: float, step: int, total: int, steps_per_epoch: int, *, warmup_epochs: float, initial_lr: float, final_lr: float,
    decay_epochs: float | None,
) -> float:  # fmt: skip
    """Return a linear warm-up from ``initial_lr`` to the base learning rate, then cosine annealing to ``final_lr``."""
    warmup = round(warmup_epochs * steps_per_epoch)
    if step < warmup:
        return initial_lr + (base - initial_lr) * (step + 1) / warmup
    end = total if decay_epochs is None else round(decay_epochs * steps_per_epoch)
    return cosine(base, step - warmup, end - warmup, steps_per_epoch, final_lr=final_lr)


def warmup_steps(cfg: ScheduleConfig, steps_per_epoch: int) -> int:
    """Return the number of warm-up steps of a schedule."""
    return round(cfg.warmup_epochs * steps_per_epoch)
