"""Mixup and cutmix: pairs of a batch mixed, shares of classes that add up, and what cannot be mixed."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Batches, load
from credit.data.mixing import mixed, task_of_steps

SIZE, CLASSES = 8, 4
Y = torch.arange(SIZE) % CLASSES


def mixed_up(step: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Return what each example (rows) has of each example, and the shares of classes, of a mixup batch."""
    return mixed(DataConfig(**options), torch.eye(SIZE, dtype=torch.float64), Y, CLASSES, seed=0, step=step)


def test_mixup_pairs_each_example_with_another_of_the_batch_in_one_share():
    one_hot = F.one_hot(Y, CLASSES).double()
    for step in range(10):
        parts, shares = mixed_up(step, mixup=1.0)
        torch.testing.assert_close(shares, parts @ one_hot)
        for sums in (parts.sum(0), parts.sum(1)):  # every example is kept once and given away once
            torch.testing.assert_close(sums, torch.ones_like(sums))
        apart = parts.diag() < 1 - 1e-9
        assert parts.diag()[apart].unique().numel() <= 2 and (parts[apart] > 1e-9).sum(1).max() == 2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_of_a_beta_distribution(alpha):
    kept = []
    for step in range(600):
        diagonal = mixed_up(step, mixup=alpha)[0].diag()
        kept.append(diagonal[diagonal < 1].max() if bool((diagonal < 1).any()) else torch.tensor(1.0))
    found = torch.stack(kept)
    variance = 1 / (4 * (2 * alpha + 1))
    assert found.mean() == pytest.approx(0.5, abs=4 * (variance / 600) ** 0.5)
    assert found.var() == pytest.approx(variance, rel=0.15)


def test_cutmix_pastes_one_rectangle_and_gives_labels_the_shares_of_the_area():
    cut = 0
    for step in range(20):
        x = torch.arange(SIZE).view(SIZE, 1, 1, 1).expand(SIZE, 2, 6, 9).float().clone()
        out, shares = mixed(DataConfig(cutmix=1.0), x, Y, CLASSES, seed=0, step=step)
        for at in range(SIZE):
            other = set(out[at].unique().tolist()) - {at}
            pasted = out[at, 0] != at
            if other:
                rows, columns = pasted.any(1), pasted.any(0)
                assert bool((pasted == rows[:, None] & columns[None]).all()) and torch.equal(out[at, 0], out[at, 1])
                cut += 1
            weight = pasted.double().mean()
            expected = (1 - weight) * F.one_hot(Y[at], CLASSES)
            if other:
                expected += weight * F.one_hot(Y[int(other.pop())], CLASSES)
            torch.testing.assert_close(shares[at].double(), expected, atol=1e-6, rtol=0)
    assert cut > 40


def test_a_share_of_the_steps_is_mixed_and_both_take_turns():
    x = torch.arange(SIZE).view(SIZE, 1, 1, 1).expand(SIZE, 2, 6, 9).float()
    counts = {"none": 0, "mixup": 0, "cutmix": 0}
    for step in range(300):
        out, _ = mixed(DataConfig(mixup=1.0, cutmix=1.0, mix_probability=0.6), x.clone(), Y, CLASSES, seed=1, step=step)
        whole = bool((out == out.long()).all())
        counts["none" if torch.equal(out, x) else "cutmix" if whole else "mixup"] += 1
    assert 80 <= counts["none"] <= 160 and 60 <= counts["mixup"] <= 120 and 50 <= counts["cutmix"] <= 120


def test_batches_of_several_runs_are_mixed_as_each_alone_and_at_any_step():
    cfg = DataConfig(kind="digits", batch_size=32, mixup=0.4, cutmix=1.0)
    sets = [load(cfg, NoiseConfig(), seed=seed, device="cpu") for seed in (0, 1)]
    together = Batches(sets, cfg, seed=[0, 1])
    for at, data in enumerate(sets):
        alone = Batches(data, cfg, seed=at)
        for step in (3, 0, 7):
            one, both = alone.at(step), together.at(step)
            assert torch.equal(one.x, both.x[at]) and torch.equal(one.y, both.y[at]) and one.y.shape == (32, 10)
    assert torch.equal(data.train.x, load(cfg, NoiseConfig(), seed=1, device="cpu").train.x)  # nothing was pasted there


@pytest.mark.parametrize(
    ("options", "task", "words"),
    [
        ({"mixup": 0.2}, "regression", "data.mixup=0.2 mixes class labels, and the task is regression; leave it out"),
        ({"cutmix": 1.0}, "classification", r"pastes a rectangle .* have the shape \(5,\); write data.mixup=1"),
        ({"mix_probability": 0.5}, "classification", "data.mix_probability=0.5 would change nothing"),
    ],
)
def test_what_cannot_be_mixed_is_refused(options, task, words):
    with pytest.raises(UserError, match=words):
        task_of_steps(DataConfig(**options), task, (5,))
