"""Benchmark of replicas: steps in one pass and in processes, against the same steps by autograd one after another.

Blocks of each alternative are timed in turn, and the median of their ratios is reported.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from credit.benchmarks.speed import MODES, forward_of, skipped_graphs
from credit.models import build
from credit.rules import api
from credit.rules.replicas import Mapped, why_not
from credit.sweeps.processes import run_jobs
from credit.tasks.base import fitting

EPOCH = 45
"""Number of steps after which the weights of a pass are compared with those of a loop: an epoch of Digits with batches of 32."""

PRELOAD = ("credit.benchmarks.throughput", "torch._dynamo")


@dataclass(frozen=True)
class Problem:
    """The training problem of a benchmark.

    Attributes:
        arch: the network's kind and options.
        shape: shape of an example.
        classes: number of classes.
        rule: name of the rule.
        batch: number of examples in a step.
        replicas: number of seeds.
        device: name of the device.
        mode: a key of `credit.benchmarks.speed.MODES`, of both sides.
    """

    arch: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    rule: str
    batch: int = 32
    replicas: int = 20
    device: str = "cpu"
    mode: str = "eager"

    def models(self, count: int | None = None) -> list[nn.Module]:
        """Return networks with seeds 0, 1, ..., in train mode; `count` is their number, None for that of the replicas."""
        seeds = range(self.replicas if count is None else count)
        return [build(self.arch, self.shape, self.classes, seed=seed).to(self.device).train() for seed in seeds]

    def data(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return random inputs x (replicas, B, ...) and labels y (replicas, B)."""
        source = torch.Generator().manual_seed(seed)
        x = torch.randn(self.replicas, self.batch, *self.shape, generator=source).to(self.device)
        return x, torch.randint(0, self.classes, (self.replicas, self.batch), generator=source).to(self.device)


@dataclass(frozen=True)
class Speedup:
    """One row of ``credit bench``.

    Attributes:
        mapped: time of autograd, one replica after another, divided by the time of one pass; None if the rule cannot be mapped.
        processes: the same divided by the time of processes, one a core; None on a GPU or on one core.
        autograd_ms: milliseconds of one step of every replica by autograd, for orientation.
        blocks: number of blocks timed for each alternative.
        difference: largest difference between the weights of a pass and those of separate steps, after ``EPOCH`` steps in
            float32, divided by the largest weight; None if the rule cannot be mapped.
        skipped: number of compiled programs that torch did not replay as CUDA graphs although asked to, on both sides.
    """

    mapped: float | None
    processes: float | None
    autograd_ms: float
    blocks: int
    difference: float | None = None
    skipped: int = 0

    @property
    def chosen(self) -> float:
        """The speedup with ``trainer.replicate=auto``: that of the faster alternative."""
        return max(self.mapped or 0.0, self.processes or 0.0)


def compare_replicas(problem: Problem, *, seconds: float = 6.0, processes: int = 1, blocks: int = 5) -> Speedup:
    """Return the speedup of the replicas' steps, with the optimizer's, over autograd's one after another.

    Args:
        problem: the training problem.
        seconds: approximate duration of the measurement of each alternative.
        processes: number of processes, one a core, among which the replicas are divided; 1 leaves them out.
        blocks: number of alternating blocks into which the duration is divided.
    """
    before = skipped_graphs()
    plain, mapped = _autograd(problem), _mapped(problem)
    length = seconds / blocks
    ratios: dict[str, list[float]] = {"mapped": [], "processes": []}
    paces = []
    for _ in range(blocks):
        pace = _pace(plain, length, problem.device)
        paces.append(pace)
        if mapped is not None:
            ratios["mapped"].append(pace / _pace(mapped, length, problem.device))
        if processes > 1:
            ratios["processes"].append(pace / _pace_of_processes(problem, processes, length))
    median = {way: statistics.median(found) if found else None for way, found in ratios.items()}
    apart = None if mapped is None else difference(problem)
    return Speedup(
        median["mapped"], median["processes"], statistics.median(paces) * 1e3, blocks, apart, skipped_graphs() - before
    )


def difference(problem: Problem, steps: int = EPOCH) -> float:
    """Return the relative difference between the weights of a pass and of separate steps (see `Speedup`), after some steps."""
    alone, together = problem.models(), problem.models()
    rules = [api.rule(problem.rule, model, seed=at) for at, model in enumerate(alone)]
    optimizers = [SGD(model.parameters(), lr=0.01, momentum=0.9) for model in alone]
    mapped = Mapped([api.rule(problem.rule, model, seed=at) for at, model in enumerate(together)])
    whole = SGD(mapped.parameters(), lr=0.01, momentum=0.9)
    for at in range(steps):
        x, y = problem.data(seed=at)
        mapped.step(x, y)
        whole.step()
        for place, (rule, optimizer) in enumerate(zip(rules, optimizers, strict=True)):
            rule.step(x[place], y[place])
            optimizer.step()
    both = [zip(one.parameters(), other.parameters(), strict=True) for one, other in zip(alone, together, strict=True)]
    pairs = [(a.detach(), b.detach()) for params in both for a, b in params]
    largest = max(float(a.abs().max()) for a, _ in pairs)
    return max(float((a - b).abs().max()) for a, b in pairs) / largest


def _autograd(problem: Problem) -> Callable[[], None]:
    models, (x, y) = problem.models(), problem.data()
    # The same optimizer kernel for all alternatives, so that only the steps differ.
    optimizers = [SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True) for model in models]
    forwards = [forward_of(model, problem.mode) for model in models]

    def step() -> None:
        for at, (forward, optimizer) in enumerate(zip(forwards, optimizers, strict=True)):
            optimizer.zero_grad(set_to_none=True)
            out = forward(x[at])
            if fitting("classification", models[at]).name == "binary":
                F.binary_cross_entropy(out[:, 0], y[at].to(out.dtype)).backward()
            else:
                F.cross_entropy(out, y[at]).backward()
            optimizer.step()

    return step


def _mapped(problem: Problem) -> Callable[[], None] | None:
    x, y = problem.data()
    rules = [api.rule(problem.rule, model, seed=at) for at, model in enumerate(problem.models())]
    if why_not(rules[0], x[0], y[0]) is not None:
        return None
    together = Mapped(rules, compiled=MODES[problem.mode])
    optimizer = SGD(together.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step() -> None:
        together.step(x, y)
        optimizer.step()

    return step


def _pace(step: Callable[[], None], seconds: float, device: str) -> float:
    """Return the mean seconds of a call, over at least two calls and the given duration."""
    for _ in range(2):
        step()
    _wait(device)
    calls, started = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - started < seconds:
        step()
        calls += 1
    _wait(device)
    return (time.perf_counter() - started) / calls


def _pace_of_processes(problem: Problem, processes: int, seconds: float) -> float:
    """Return the seconds in which concurrent processes make one step of every replica."""
    payloads = [(problem, seconds)] * processes
    ended = run_jobs(_alone, payloads, parallel=processes, preload=PRELOAD, watch=lambda *_: None)
    for outcome in ended:
        if outcome.error is not None:
            raise RuntimeError(f"{outcome.error}\n{outcome.log}")
    return problem.replicas / sum(1 / outcome.value for outcome in ended)


def _alone(payload: tuple[Problem, float]) -> float:
    """Return the seconds of a step of one replica in this process, with one thread."""
    problem, seconds = payload
    torch.set_num_threads(1)
    [model], (x, y) = problem.models(1), problem.data()
    rule = api.rule(problem.rule, model)
    optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step() -> None:
        rule.step(x[0], y[0])
        optimizer.step()

    return _pace(step, seconds, problem.device)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
