"""CPU threads of a run: by the arithmetic of its model, whatever the machine is doing."""

import pytest
import torch
from torch import nn

import credit
from credit.training import train, train_together
from credit.training.prepare import prepare
from credit.training.threads import SMALL, choose_threads, multiply_adds, threads


class Small(nn.Module):
    """A convolution of stride 2, BatchNorm, dropout, a functional and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Dropout()
        self.head = nn.Linear(4 * 4 * 4, 5)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).flatten(1)))


def test_multiply_adds_are_those_of_the_shapes_and_counting_changes_nothing() -> None:
    model = Small()
    rule = credit.rule("bp", model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert multiply_adds(rule, torch.zeros(2, 3, 8, 8)) == 2 * (3 * 9 * 4 * 16 + 64 * 5)
    assert model.training and torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_batch_beyond_the_limit_leaves_torch_its_number() -> None:
    rule, x = credit.rule("bp", nn.Sequential(nn.Linear(10, 10))), torch.zeros(2, 10)
    below, above = SMALL // 100 - 1, SMALL // 100
    assert choose_threads(None, rule, x, below).count == 1
    assert choose_threads(None, rule, x, above).count is None
    assert choose_threads(3, rule, x, below) == choose_threads(3, rule, x, above)
    assert choose_threads(3, rule, x, below).count == 3
    assert "1,000,000,000 multiply-adds" in choose_threads(None, rule, x, above).why


@pytest.mark.parametrize("together", [False, True])
def test_a_small_run_takes_one_thread_and_its_result_has_the_reason(config, together: bool) -> None:
    cfg = config(trainer={"epochs": 1})
    with threads(3):  # as on a machine of three cores
        [result] = train_together([cfg], console=False) if together else [train(cfg, console=False)]
        assert torch.get_num_threads() == 3
    machine = result["provenance"]["machine"]
    assert machine["threads"] == 1
    assert "a batch of 50 takes 59,200 of them" in machine["threads_because"]  # 50 x (64 x 16 + 16 x 10)


def test_the_rule_has_no_part_in_the_choice(config) -> None:
    chosen = {
        prepare(config(rule, arch={"widths": [16, 16]})).threads
        for rule in ("bp", "dfa", "dp", "lfp_epsilon", "lra_e", "dtp")
    }
    assert len(chosen) == 1
