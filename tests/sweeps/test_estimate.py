"""The estimate of a run's seconds: it grows with the work, and is about what the run then takes."""

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from credit.core.config.compose import compose
from credit.sweeps.estimate import Pace, estimate, measure, outline, seconds, start
from credit.training import train
from credit.training.prepare import prepare

WORDS = ["data=digits", "arch=mlp", "rule=bp", "trainer.epochs=10", "data.batch_size=50", "trainer.threads=1"]


class Flops(TorchDispatchMode):
    """Counts the multiplications and additions of products of matrices."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in flop_registry:
            out = func(*args, **kwargs)
            self.total += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
            return out
        with self:  # without gradients a linear layer arrives whole
            parts = func.decompose(*args, **kwargs)
        return func(*args, **kwargs) if parts is NotImplemented else parts


@pytest.fixture
def flops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flops]:
    """Let the estimate's clock tell a second a flop, whatever else the machine does."""
    with Flops() as counter:
        monkeypatch.setattr("credit.sweeps.estimate.time", SimpleNamespace(perf_counter=lambda: counter.total))
        yield counter


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


def test_a_wider_network_is_slower(flops):
    narrow, wide = (measure(prepare(compose([*WORDS, f"arch.widths=[{w}]"]))) for w in (16, 64))
    assert wide.step == pytest.approx(4 * narrow.step) and wide.forward == pytest.approx(4 * narrow.forward)


def test_a_long_step_is_scaled_from_a_small_one(flops, monkeypatch):
    whole = measure(prepare(compose(WORDS)))
    monkeypatch.setattr("credit.sweeps.estimate.LONG_STEP", 0.0)
    before = flops.total
    scaled = measure(prepare(compose(WORDS)))
    assert scaled.step == pytest.approx(whole.step) and scaled.forward == pytest.approx(whole.forward)
    assert flops.total - before < 2 * whole.step  # of 16 examples instead of 50


def test_the_estimate_is_what_the_run_then_takes(flops):
    config = compose([*WORDS, "arch.widths=[32]"])  # so small that no other product than torch's own is taken
    told = estimate(prepared := prepare(config)) - start(prepared.spec)
    before = flops.total
    train(config, console=False)
    assert flops.total - before == pytest.approx(told, rel=0.1)


def test_compiling_is_not_waited_for():
    config = compose(WORDS)
    compiled = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, compile=True))
    before = counters["stats"]["unique_graphs"]
    measure(prepare(compiled))
    assert counters["stats"]["unique_graphs"] == before
