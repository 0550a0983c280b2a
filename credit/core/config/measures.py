"""What a run's settings say of its measurements, held against each other; no torch."""

from credit.core.config.schema import TrainerConfig
from credit.core.errors import UserError


def check_measures(trainer: TrainerConfig) -> None:
    """Refuse what says how to measure where nothing is measured so.

    Raises:
        UserError: naming the option and the diagnostic it needs.
    """
    if trainer.measure_first and not trainer.measure:
        raise UserError(
            f"trainer.measure_first={trainer.measure_first} measures nothing: name what, for example trainer.measure=[alignment]"
        )
    if not trainer.fgsm_epsilon:
        raise UserError(
            "trainer.fgsm_epsilon=[] moves no example: give sizes of the step, for example trainer.fgsm_epsilon=[0.01]"
        )
    if trainer.fgsm_epsilon != TrainerConfig().fgsm_epsilon and "fgsm" not in trainer.measure:
        raise UserError(
            f"trainer.fgsm_epsilon={trainer.fgsm_epsilon} is read by the diagnostic fgsm alone: write trainer.measure=[fgsm] too. "
            "Training on adversarial examples is rule=bp_fgsm, with rule.fgsm_epsilon"
        )
