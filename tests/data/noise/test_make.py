"""Label noise: exact counts, the right wrong classes, its own seed, and a mask that says what really changed."""

import pytest
import torch

from credit.core.config.compose import compose
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.noise.drawn import CIFAR10_PAIRS
from credit.data.noise.make import add_noise, check_noise
from credit.data.options import InstanceNoise
from credit.data.sources.files import Whole
from credit.runs.identity import run_name

CLEAN = torch.arange(10).repeat(137)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4, 0.333, 0.999])
@pytest.mark.parametrize("kind", ["symmetric", "pair_flip"])
def test_exactly_the_rounded_share_of_labels_is_wrong(kind, rate):
    noisy = add_noise(CLEAN, NoiseConfig(kind, rate), 10, seed=3)
    assert int((noisy != CLEAN).sum()) == round(rate * len(CLEAN))
    assert noisy.min() >= 0 and noisy.max() < 10


def test_symmetric_noise_reaches_every_other_class_evenly():
    clean = torch.zeros(90000, dtype=torch.int64)
    counts = torch.bincount(add_noise(clean, NoiseConfig("symmetric", 0.9), 10, seed=0), minlength=10)
    assert counts[0] == 9000
    assert (counts[1:] - 9000).abs().max() < 500


def test_uniform_leaves_one_chosen_label_in_ten_true():
    clean = torch.arange(10).repeat(10000)
    wrong = (add_noise(clean, NoiseConfig("uniform", 0.4), 10, seed=0) != clean).float().mean()
    assert abs(wrong - 0.36) < 0.005


def test_pair_flip_goes_to_the_next_class():
    noisy = add_noise(CLEAN, NoiseConfig("pair_flip", 0.5), 10, seed=1)
    changed = noisy != CLEAN
    assert torch.equal(noisy[changed], (CLEAN[changed] + 1) % 10)


def test_asymmetric_moves_only_paired_classes_to_their_look_alike():
    noisy = add_noise(CLEAN, NoiseConfig("asymmetric", 0.6), 10, seed=1)
    changed = (noisy != CLEAN).nonzero().flatten().tolist()
    assert changed
    assert all(int(noisy[i]) == CIFAR10_PAIRS[int(CLEAN[i])] for i in changed)
    everything = add_noise(CLEAN, NoiseConfig("asymmetric", 0.9999), 10, seed=1)  # rounds to all samples
    assert {c: int(everything[c == CLEAN][0]) for c in CIFAR10_PAIRS} == CIFAR10_PAIRS


def test_noise_has_its_own_seed():
    drawn = [
        add_noise(CLEAN, NoiseConfig("symmetric", 0.4, seed), 10, run) for seed, run in ((7, 0), (7, 1), (None, 7))
    ]
    assert all(torch.equal(noisy, drawn[0]) for noisy in drawn)
    assert not torch.equal(add_noise(CLEAN, NoiseConfig("symmetric", 0.4), 10, 8), drawn[0])


def test_only_training_labels_are_touched_and_the_mask_is_true():
    cfg, noise = DataConfig(), NoiseConfig("uniform", 0.4)
    clean, noisy = load(cfg, NoiseConfig(), seed=0, device="cpu"), load(cfg, noise, seed=0, device="cpu")
    assert torch.equal(clean.val.y, noisy.val.y) and torch.equal(clean.test.y, noisy.test.y)
    assert torch.equal(clean.train.y, noisy.clean_y) and torch.equal(clean.train.x, noisy.train.x)
    assert torch.equal(noisy.corrupted, noisy.train.y != noisy.clean_y)
    assert not clean.corrupted.any()
    summary = noisy.summary()
    assert summary["labels_chosen"] == round(0.4 * len(noisy.train)) > summary["labels_wrong"] > 0
    assert summary["val_labels"] == "clean"


@pytest.mark.parametrize(
    "noise", [NoiseConfig("symmetric", 0.4), InstanceNoise("instance", 0.4)], ids=lambda one: one.kind
)
def test_validation_labels_are_noisy_where_asked_and_the_training_labels_the_same(noise):
    clean, noisy = (load(DataConfig(val_noise=told), noise, seed=0, device="cpu") for told in (False, True))
    assert torch.equal(clean.train.y, noisy.train.y) and torch.equal(clean.test.y, noisy.test.y)
    wrong = int((noisy.val.y != clean.val.y).sum())
    assert 0.25 < wrong / len(clean.val) < 0.55 and (noise.kind != "symmetric" or wrong == round(0.4 * len(clean.val)))
    assert {"val_labels": "noisy", "val_labels_wrong": wrong}.items() <= noisy.summary().items()
    assert clean.summary()["val_labels"] == "clean" and clean.val_wrong is None


def test_noisy_validation_labels_need_a_validation_part_and_noise():
    with pytest.raises(UserError, match="data.val_noise=true would change nothing: there is no validation part"):
        describe(DataConfig(val_noise=True, val_fraction=0.0))
    clean = load(DataConfig(val_noise=True), NoiseConfig(), seed=0, device="cpu")
    assert clean.summary()["val_labels"] == "clean" and "changes nothing without label noise" in clean.notes[0]
    assert run_name(compose(["noise=none", "data.val_noise=true"])) == run_name(compose(["noise=none"]))
    assert run_name(compose(["noise=0.4", "data.val_noise=true"])) != run_name(compose(["noise=0.4"]))


@pytest.mark.parametrize(
    ("noise", "kind", "words"),
    [
        (NoiseConfig("symetric", 0.4), "digits", "did you mean 'symmetric'"),
        (NoiseConfig("redraw", 0.4), "digits", "noise=uniform"),
        (NoiseConfig("symmetric", 1.0), "digits", "outside [0, 1)"),
        (NoiseConfig("symmetric", -0.1), "digits", "outside [0, 1)"),
        (NoiseConfig("symmetric", float("nan")), "digits", "finite number in [0, 1)"),
        (NoiseConfig("symmetric", float("inf")), "digits", "finite number in [0, 1)"),
        (NoiseConfig("asymmetric", 0.4), "cifar100", "noise=pair_flip"),
    ],
)
def test_impossible_noise_is_refused_in_words(noise, kind, words):
    with pytest.raises(UserError) as error:
        check_noise(noise, DataConfig(kind=kind), Whole((3, 32, 32), 10, 100, 100))
    assert words in str(error.value)


def test_a_rate_without_a_kind_is_refused():
    with pytest.raises(UserError, match=r"noise=none with noise.rate=0.4: write noise=0.4"):
        NoiseConfig("none", 0.4)


def test_a_rate_that_makes_no_label_wrong_is_refused():
    with pytest.raises(UserError, match=r"rounds to none, so no label would be wrong: write a rate above"):
        add_noise(CLEAN, NoiseConfig("symmetric", 0.4 / len(CLEAN)), 10, seed=0)
    assert int((add_noise(CLEAN, NoiseConfig("symmetric", 0.6 / len(CLEAN)), 10, seed=0) != CLEAN).sum()) == 1
