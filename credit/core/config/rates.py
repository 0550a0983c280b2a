"""What optimizer and schedule say of the learning rate, held against each other; no torch."""

from credit.core.config.schema import RunConfig
from credit.core.errors import UserError

EPOCHS_OF_STEP = (10, 15)
"""The milestones of conf/schedule/step.yaml, which are epochs; in steps they were hardly asked for."""


def check_rates(cfg: RunConfig) -> None:
    """Refuse settings of optimizer and schedule that do not fit each other, or the run's length.

    Raises:
        UserError: naming both.
    """
    if len(cfg.optimizer.betas) != 2:
        raise UserError(
            f"optimizer.betas={cfg.optimizer.betas}: must be two numbers, written optimizer.betas=[0.9,0.999]"
        )
    if cfg.optimizer.nesterov and cfg.optimizer.momentum == 0:
        raise UserError("optimizer.nesterov=true needs optimizer.momentum above 0")
    milestones = cfg.schedule.milestones
    if any(later <= earlier for earlier, later in zip(milestones, milestones[1:], strict=False)):
        raise UserError(f"schedule.milestones={milestones}: must be increasing {cfg.schedule.unit}")
    in_steps = cfg.schedule.unit == "steps"
    if cfg.schedule.kind == "step" and not milestones:
        example = "[400,800]" if in_steps else "[10,15]"
        raise UserError(
            f"schedule=step needs the {cfg.schedule.unit} at which it drops: write schedule.milestones={example}"
        )
    if in_steps and tuple(milestones) == EPOCHS_OF_STEP:
        raise UserError(
            "schedule.unit=steps with schedule.milestones=[10,15], which are schedule=step's default epochs: the rate would "
            "drop at the run's 10th and 15th step. Write the steps at which it drops, such as schedule.milestones=[400,800]; "
            "[9.5,14.5] if 10 and 15 are meant"
        )
    if cfg.trainer.epochs is not None and cfg.schedule.warmup_epochs > cfg.trainer.epochs:
        raise UserError(
            f"schedule.warmup_epochs={cfg.schedule.warmup_epochs:g} is longer than the run, "
            f"trainer.epochs={cfg.trainer.epochs:g}"
        )
    _check_decay(cfg)


def _check_decay(cfg: RunConfig) -> None:
    """Refuse a cosine that would end before it begins or behind the run, and a warm-up that goes down."""
    schedule, decay, epochs = cfg.schedule, cfg.schedule.decay_epochs, cfg.trainer.epochs
    if decay is not None and decay <= schedule.warmup_epochs:
        raise UserError(
            f"schedule.decay_epochs={decay:g} is counted from the run's start, and the warm-up takes {schedule.warmup_epochs:g} "
            f"epochs: the cosine would end before it begins. Write more than schedule.warmup_epochs"
        )
    if decay is not None and epochs is not None and decay > epochs:
        raise UserError(
            f"schedule.decay_epochs={decay:g} is longer than the run, trainer.epochs={epochs:g}; leave it out to end with the run"
        )
    if schedule.initial_lr > cfg.optimizer.lr:
        raise UserError(
            f"schedule.initial_lr={schedule.initial_lr:g} is above optimizer.lr={cfg.optimizer.lr:g}, to which the warm-up rises"
        )
