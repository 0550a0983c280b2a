"""The learning rate is a pure function of the step."""

import math

import pytest

from credit.core.config.compose import compose
from credit.core.config.schema import ScheduleConfig
from credit.core.config.validate import EPOCHS_OF_STEP
from credit.core.errors import UserError
from credit.training.schedules import learning_rate
from tests.support.small_runs import small_config


def rates(kind: str, total: int = 100, per_epoch: int = 10, **options) -> list[float]:
    cfg = ScheduleConfig(kind=kind, **options)
    return [learning_rate(cfg, 0.1, step, total, per_epoch) for step in range(total)]


def test_constant_stays():
    assert set(rates("constant")) == {0.1}


def test_step_falls_at_each_milestone():
    got = rates("step", milestones=[3.0, 7.5], gamma=0.5)
    assert (got[29], got[30], got[74], got[75]) == pytest.approx((0.1, 0.05, 0.05, 0.025))


def test_a_fractional_milestone_falls_on_its_step():
    assert rates("step", milestones=[0.3], gamma=0.1)[2:4] == pytest.approx([0.1, 0.01])


def test_cosine_is_half_a_cosine_between_its_ends():
    got = rates("cosine", final_lr=0.02)
    assert got[0] == pytest.approx(0.1)
    assert got[50] == pytest.approx(0.06)
    assert got[99] == pytest.approx(0.02 + 0.04 * (1 + math.cos(math.pi * 0.99)))
    assert got == sorted(got, reverse=True)


def test_cosine_equals_torch(recwarn):
    import torch
    from torch.optim.lr_scheduler import CosineAnnealingLR

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = CosineAnnealingLR(optimizer, T_max=100, eta_min=0.01)
    for ours in rates("cosine", final_lr=0.01):
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_warmup_rises_in_a_line_and_then_falls():
    got = rates("warmup_cosine", warmup_epochs=2.0)
    assert got[:20] == pytest.approx([0.1 * (i + 1) / 20 for i in range(20)])
    assert got[20] == pytest.approx(0.1)
    assert got[20:] == sorted(got[20:], reverse=True)
    assert got[99] < 0.001


def test_warmup_can_begin_above_zero_and_the_cosine_end_before_the_run():
    got = rates("warmup_cosine", warmup_epochs=2.0, initial_lr=0.01, final_lr=0.002, decay_epochs=8.0)
    assert got[:20] == pytest.approx([0.01 + 0.09 * (i + 1) / 20 for i in range(20)])
    assert got[20] == pytest.approx(0.1) and got[50] == pytest.approx(0.051)  # half-way between steps 20 and 80
    assert got[79] > 0.002 and got[80:] == pytest.approx([0.002] * 20)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup_epochs": 1, "decay_epochs": 1}, "schedule.decay_epochs=1 is counted from the run's start"),
        ({"warmup_epochs": 1, "decay_epochs": 3}, "schedule.decay_epochs=3 is longer than the run, trainer.epochs=2"),
        ({"warmup_epochs": 1, "initial_lr": 0.5}, "schedule.initial_lr=0.5 is above optimizer.lr=0.05"),
    ],
)
def test_warmups_that_cannot_be_are_refused(options, said):
    with pytest.raises(UserError) as caught:
        small_config(schedule={"kind": "warmup_cosine", **options}, optimizer={"kind": "sgd", "lr": 0.05})
    assert said in str(caught.value)


def test_milestones_can_be_steps():
    got = rates("step", milestones=[40, 80], unit="steps", gamma=0.1)
    assert (got[39], got[40], got[79], got[80]) == pytest.approx((0.1, 0.01, 0.01, 0.001))
    assert got == rates("step", milestones=[4.0, 8.0], gamma=0.1)
    with pytest.raises(
        UserError, match=r"schedule.unit=step: schedule=step has no such choice; did you mean 'steps'\?"
    ):
        small_config(schedule={"kind": "step", "milestones": [4], "unit": "step"})
    with pytest.raises(UserError, match=r"milestones=\[4.0, 2.0\]: must be increasing steps"):
        small_config(schedule={"kind": "step", "milestones": [4, 2], "unit": "steps"})
    with pytest.raises(
        UserError, match=r"schedule.unit=steps would change nothing: it is read with schedule=step alone"
    ):
        small_config(schedule={"kind": "cosine", "unit": "steps"})


def test_the_default_epochs_are_not_taken_for_steps():
    own = compose(["schedule=step"]).schedule
    assert (own.milestones, own.unit) == (EPOCHS_OF_STEP, "epochs")
    with pytest.raises(UserError, match=r"\[10,15\], which are schedule=step's default epochs.*Write the steps"):
        compose(["schedule=step", "schedule.unit=steps"])
    with pytest.raises(UserError, match=r"needs the steps at which it drops: write schedule.milestones=\[400,800\]"):
        small_config(schedule={"kind": "step", "unit": "steps"})
    meant = compose(["schedule=step", "schedule.unit=steps", "schedule.milestones=[9.5,14.5]"]).schedule
    got = [learning_rate(meant, 1.0, step, 100, 10) for step in (9, 10, 14, 15)]
    assert got == pytest.approx([1, 0.1, 0.1, 0.01])
