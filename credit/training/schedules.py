"""The learning rate as a pure function of the step: nothing to save, nothing to step."""

import math

from credit.core.config.schema import ScheduleConfig


def learning_rate(cfg: ScheduleConfig, base: float, step: int, total: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    Args:
        cfg: the schedule.
        base: ``optimizer.lr``.
        step: steps done before this one, from 0.
        total: steps of the whole run.
        steps_per_epoch: turns the schedule's epochs into steps.
    """
    if cfg.kind == "constant":
        return base
    if cfg.kind == "step":
        # The small allowance keeps a milestone such as 0.3 epochs of 10 steps on step 3.
        unit = steps_per_epoch if cfg.unit == "epochs" else 1
        passed = sum(step + 1e-9 >= milestone * unit for milestone in cfg.milestones)
        return base * cfg.gamma**passed
    warmup = warmup_steps(cfg, steps_per_epoch)
    if step < warmup:
        return cfg.initial_lr + (base - cfg.initial_lr) * (step + 1) / warmup
    end = total if cfg.decay_epochs is None else round(cfg.decay_epochs * steps_per_epoch)
    along = min((step - warmup) / max(end - warmup, 1), 1.0)
    return cfg.final_lr + 0.5 * (base - cfg.final_lr) * (1 + math.cos(math.pi * along))


def warmup_steps(cfg: ScheduleConfig, steps_per_epoch: int) -> int:
    """Return how many steps the learning rate rises for."""
    return round(cfg.warmup_epochs * steps_per_epoch) if cfg.kind == "warmup_cosine" else 0
