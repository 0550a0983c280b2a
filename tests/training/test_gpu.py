"""Runs on fake CUDA tensors: the loop waits for the device where an epoch ends and at no step, and nothing is elsewhere."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from credit.core import registry
from credit.core.config import RunConfig
from credit.data import load
from credit.runs.metrics import MetricsFile
from credit.runs.screen import Screen
from credit.training.backends.ranks import Ranks
from credit.training.backends.single import Single
from credit.training.evaluate import evaluate
from credit.training.loop import _steps
from credit.training.monitors import dead
from credit.training.monitors.interrupts import StopRequest
from credit.training.monitors.measure import Measures
from credit.training.prepare import prepare
from credit.training.run_recorder import RunRecorder
from credit.training.state.run_state import Training, begin
from tests.support.fake_gpu import FakeGpu, WaitedError, Waiting, on_gpu
from tests.support.small_runs import small_config


def on_fake_gpu(gpu: FakeGpu, cfg: RunConfig, step: int = dead.STEPS) -> Training:
    """Return a run with all its tensors on the fake GPU, at a step; behind the first ones, unless given, which are looked at."""
    prepared = prepare(cfg)
    run = begin(prepared, load(cfg.data, cfg.noise, seed=cfg.seed, device="cpu"))
    run.step = step
    run.batches.at(step)  # the order of an epoch is drawn on the CPU, and copied once
    moved: Training = gpu.moved(run, run.rule, *([run.warm] if run.warm else []))
    moved.device = torch.device("cuda")
    if moved.average is not None:
        moved.average.n_averaged = torch.zeros((), dtype=torch.int64)  # stays on the CPU
    return moved


def first_wait(run: Training, folder: Path, waiting: Waiting) -> Single:
    """Make the run's steps up to the first wait, and return the backend as it is then."""
    screen = Screen(run.total_steps, show=False, primary=run.rule.task.primary)
    with contextlib.closing(MetricsFile(folder)) as metrics:
        runs = Single([RunRecorder(run, folder, metrics, screen, None)], screen, {})
        runs.recorders[0].begin()
        with pytest.raises(WaitedError):
            _steps(runs, StopRequest(), screen)
    return runs


AUGMENTED = {"augment": ["flip", "crop", "cutout"], "crop_padding": 1, "cutout_size": 2}
SETTINGS: dict[str, dict[str, Any]] = {  # "name": of a rule other than LISP-margin
    "augmented": {"data": AUGMENTED},
    "per image": {"data": AUGMENTED | {"normalize": "gcn"}},
    "convolutions": {"arch": {"kind": "plain_conv_bn", "widths": [4, 4, 4, 4, 4, 4]}},
    "adamw": {"optimizer": {"kind": "adamw", "lr": 0.01}},
    "a name of torch": {"optimizer": {"kind": "torch", "name": "RAdam"}},
    "a name of timm": {"optimizer": {"kind": "timm", "name": "lamb"}},
    "averaged weights": {"trainer": {"ema": 0.9}},
    "adversarial inputs": {"trainer": {"adversarial_epsilon": 0.1, "adversarial_share": 0.5}},
    "a warm start": {"trainer": {"warm_rule": "bp", "warm_steps": 9}},
    "bfloat16": {"trainer": {"precision": "bf16"}},
    "limits": {"rule": {"clip_norm": 1.0, "clip_unit": 0.1}},
    "pieces of a batch": {"trainer": {"accumulate": 2}},
    "balanced classes": {"data": {"sampler": "balanced"}},
    "regression": {"name": "bp", "data": {"kind": "diabetes", "limit_test": None}},
    "reconstruction": {"name": "fa", "arch": {"kind": "autoencoder"}, "data": {"task": "reconstruction"}},
}
FAST = ("augmented", "a name of torch", "averaged weights")


def _named(names: Any, fast: Any) -> list[Any]:
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", _named(SETTINGS, FAST))
def test_the_loop_waits_first_where_an_epoch_ends(name: str, tmp_path: Path) -> None:
    gpu = FakeGpu()
    settings = dict(SETTINGS[name])
    run = on_fake_gpu(gpu, small_config(settings.pop("name", "lisp_margin"), **settings))
    with gpu.computing() as waiting:
        runs = first_wait(run, tmp_path, waiting)
    assert (run.step, waiting.places) == (run.steps_per_epoch, ["paused"])  # by the clock, before the evaluation
    assert on_gpu(runs.x, runs.y, runs.outcome.logits, run.running.state(), *run.model.parameters())


@pytest.fixture
def two_processes() -> Iterator[None]:
    """Make this process the first of two, in a group whose exchanges compute nothing, as those of fake tensors cannot."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    distributed.destroy_process_group()


SHARED: dict[str, dict[str, Any]] = {
    "augmented": SETTINGS["augmented"],
    "limits": SETTINGS["limits"],
    "batch norm": {"arch": {"norm": "batch"}},
    "largest value": {"name": "lfp_epsilon", "rule": {"normalizer": "max_abs"}},
    "inference": {"name": "dp"},
}


@pytest.mark.parametrize("name", _named(SHARED, ("batch norm",)))
def test_a_process_of_several_waits_first_where_an_epoch_ends(name: str, two_processes: None, tmp_path: Path) -> None:
    gpu, settings = FakeGpu(), dict(SHARED[name])
    run = on_fake_gpu(gpu, small_config(settings.pop("name", "lisp_margin"), **settings))
    run.rule.sharing = Ranks("batch norm" in name)
    with gpu.computing() as waiting:
        first_wait(run, tmp_path, waiting)
    assert (run.step, waiting.places) == (run.steps_per_epoch, ["paused"])


def test_the_first_steps_are_looked_at(tmp_path: Path) -> None:
    """For a large loss and for dead layers, once in a run."""
    gpu = FakeGpu()
    run = on_fake_gpu(gpu, small_config(), step=0)
    with gpu.computing() as waiting:
        first_wait(run, tmp_path, waiting)
    assert (run.step, waiting.places) == (0, ["first_steps"])


DIAGNOSTICS = [name for name in registry.names("diagnostic") if name != "fgsm"]
"""Those that can be rehearsed: autograd, which `fgsm` calls, needs a driver."""


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("name", _named(DIAGNOSTICS, ("alignment", "magnitudes")))
def test_diagnostics_and_evaluations_stay_on_the_device(name: str) -> None:
    """Both wait, at their interval: an evaluation once for each part's measures, and for its matrix and its wrong labels."""
    rule = "dp" if name == "inference" else "lisp_margin"
    cfg = small_config(rule, trainer={"measure": [name]}, noise={"kind": "symmetric", "rate": 0.3})
    gpu = FakeGpu()
    run = on_fake_gpu(gpu, cfg)
    with gpu.computing(waits=True) as waiting:
        measures, batch = Measures(run)._diagnostics[name], run.batches.at(run.step)
        measures.before(batch.x, batch.y)
        outcome = run.rule.step(batch.x, batch.y)
        run.optimizer.step()
        run.step += 1
        assert measures.after(batch.x, batch.y, outcome)
        waiting.places.clear()
        assert {"val_top1", "test_loss", "memorized"} <= evaluate(run.evaluated(), run.data, 64).keys()
    assert sorted(waiting.places) == ["_wrong_labels"] * 2 + ["confusion", "evaluate"] + ["measured"] * 3
