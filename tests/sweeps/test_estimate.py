"""The estimate of a run's seconds: it grows with the work, and is about what the run then takes."""

import dataclasses
import time

import pytest
import torch
from torch._dynamo.utils import counters

from credit.core.config.compose import compose
from credit.sweeps.estimate import Pace, estimate, measure, outline, seconds, start
from credit.training import train
from credit.training.prepare import prepare

WORDS = ["data=digits", "arch=mlp", "rule=bp", "trainer.epochs=10", "data.batch_size=50", "trainer.threads=1"]


def test_it_counts_steps_and_evaluations():
    run = outline(prepare(compose([*WORDS, "noise=0.4", "trainer.eval_every=4"])))
    images = run.spec.val_size + run.spec.test_size + 0.4 * run.spec.train_size
    at = seconds(run, Pace(step=2.0, forward=0.5))
    assert at == pytest.approx(start(run.spec) + 2.0 * run.total_steps + 0.5 * 3 * images / 50)
    assert run.total_steps == 10 * run.steps_per_epoch


def test_statistics_taken_anew_cost_batches():
    plain, fresh = (outline(prepare(compose([*WORDS, f"trainer.bn_batches={count}"]))) for count in (0, 8))
    pace = Pace(step=1.0, forward=0.25)
    assert seconds(fresh, pace) - seconds(plain, pace) == pytest.approx(0.25 * 10 * 8)


def test_a_wider_network_is_slower():
    narrow, wide = (measure(prepare(compose([*WORDS, f"arch.widths=[{w}]"]))) for w in (16, 8192))
    assert wide.step > 2 * narrow.step and wide.forward > narrow.forward


def test_a_long_step_is_told_from_a_small_one(monkeypatch):
    """With everything counted as long, the scaled small step is about the whole one (of a large layer)."""
    words = [*WORDS[:-2], "trainer.threads=1", "arch.widths=[4096,4096]", "data.batch_size=256"]
    whole = measure(prepare(compose(words)))
    monkeypatch.setattr("credit.sweeps.estimate.LONG_STEP", 0.0)
    scaled = measure(prepare(compose(words)))
    assert whole.step / 3 < scaled.step < 40 * whole.step


def test_the_estimate_is_of_the_right_size(tmp_path):
    torch.set_num_threads(1)
    config = compose([*WORDS, "arch.widths=[512,512]"])
    told = estimate(prepare(config))
    began = time.perf_counter()
    train(config, console=False)
    assert told / 5 < time.perf_counter() - began < told * 5


def test_compiling_is_not_waited_for():
    config = compose(WORDS)
    compiled = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, compile=True))
    before = counters["stats"]["unique_graphs"]
    measure(prepare(compiled))
    assert counters["stats"]["unique_graphs"] == before
