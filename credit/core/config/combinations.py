"""Options of the trainer that only together say something."""

from credit.core.config.schema import RunConfig, TrainerConfig
from credit.core.errors import UserError


def check_warm_start(cfg: RunConfig) -> None:
    """Refuse a warm start of which the rule or the number of steps is missing."""
    rule, steps = cfg.trainer.warm_rule, cfg.trainer.warm_steps
    if (rule is None) != (steps is None):
        given = f"trainer.warm_rule={rule}" if steps is None else f"trainer.warm_steps={steps}"
        lacking = "for how many steps" if steps is None else "which rule makes them"
        raise UserError(
            f"{given} does not say {lacking}: write both, trainer.warm_rule=bp trainer.warm_steps=100, or none"
        )


def check_stop(cfg: RunConfig) -> None:
    """Refuse numbers of a stopping rule that is not asked for, and a stopping rule that has nothing to look at."""
    usual = TrainerConfig()
    if cfg.trainer.stop_when == "never":
        for option in ("collapse_share", "collapse_after"):
            value = getattr(cfg.trainer, option)
            if value != getattr(usual, option):
                raise UserError(
                    f"trainer.{option}={value:g} changes nothing with trainer.stop_when=never: write trainer.stop_when=collapsed "
                    "too, or leave it out"
                )
    elif cfg.data.val_fraction == 0 and cfg.data.val_size is None:
        raise UserError(
            f"trainer.stop_when={cfg.trainer.stop_when} looks at the validation accuracy, and data.val_fraction=0 leaves none: "
            "write data.val_fraction=0.1, or trainer.stop_when=never"
        )
