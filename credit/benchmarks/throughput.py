"""Steps of several replicas a second, in one pass and in processes, over the same steps by autograd one after another.

Everything in one run: blocks of each way alternate, and what is reported is the median of ratios.
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

from credit.core import outputs
from credit.models import build
from credit.rules import api
from credit.rules.replicas import Mapped, why_not
from credit.sweeps.processes import run_jobs

EPOCH = 45
"""Steps after which a pass is compared with the loop: an epoch of Digits at batch 32."""

PRELOAD = ("credit.benchmarks.throughput", "torch._dynamo")


@dataclass(frozen=True)
class Problem:
    """What is trained.

    Attributes:
        arch: the network's kind and options.
        shape, classes: of one example, and how many classes.
        rule: the rule's name.
        batch: examples a step.
        replicas: seeds.
        device: where.
        compiled: compile both sides with ``torch.compile``.
    """

    arch: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    rule: str
    batch: int = 32
    replicas: int = 20
    device: str = "cpu"
    compiled: bool = False

    def models(self, count: int | None = None) -> list[nn.Module]:
        """Return networks of different seeds, in train mode."""
        seeds = range(self.replicas if count is None else count)
        return [build(self.arch, self.shape, self.classes, seed=seed).to(self.device).train() for seed in seeds]

    def data(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return random x (replicas, B, ...) and y (replicas, B)."""
        source = torch.Generator().manual_seed(seed)
        x = torch.randn(self.replicas, self.batch, *self.shape, generator=source).to(self.device)
        return x, torch.randint(0, self.classes, (self.replicas, self.batch), generator=source).to(self.device)


@dataclass(frozen=True)
class Speedup:
    """One row of ``credit bench``.

    Attributes:
        mapped: autograd's seconds, one replica after another, over those of one pass; None where it cannot be mapped.
        processes: the same over those of processes, a core each; None on a GPU or one core.
        autograd_ms: milliseconds of one step of every replica by autograd, for orientation only.
        blocks: how many blocks of each way were timed.
        difference: the largest difference between the weights of a pass and of rules stepped one by one, after ``EPOCH``
            steps in float32, over the largest weight; None where it cannot be mapped.
    """

    mapped: float | None
    processes: float | None
    autograd_ms: float
    blocks: int
    difference: float | None = None

    @property
    def chosen(self) -> float:
        """What ``trainer.replicate=auto`` comes to: the faster of the two."""
        return max(self.mapped or 0.0, self.processes or 0.0)


def compare_replicas(problem: Problem, *, seconds: float = 6.0, processes: int = 1, blocks: int = 5) -> Speedup:
    """Return how much faster the replicas' steps, the optimizer's included, are than autograd's one after another.

    Args:
        problem: what is trained.
        seconds: about how long to measure each way.
        processes: how many processes to share the replicas among, a core each; 1 leaves them out.
        blocks: into how many alternating blocks the time is divided.
    """
    if problem.compiled:
        torch._dynamo.reset()  # another problem's networks count against the limit of recompilations
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
    return Speedup(median["mapped"], median["processes"], statistics.median(paces) * 1e3, blocks, apart)


def difference(problem: Problem, steps: int = EPOCH) -> float:
    """Return how far a pass's weights are from those of the same rules stepped one by one (see `Speedup`)."""
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
    # The same kernel on all sides, so that what is compared is the steps and not the optimizers.
    optimizers = [SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True) for model in models]
    forwards = [torch.compile(model, dynamic=False) if problem.compiled else model for model in models]

    def step() -> None:
        for at, (forward, optimizer) in enumerate(zip(forwards, optimizers, strict=True)):
            optimizer.zero_grad(set_to_none=True)
            out = forward(x[at])
            if outputs.kind(models[at]) == "probability":
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
    together = Mapped(rules, compiled=problem.compiled)
    optimizer = SGD(together.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step() -> None:
        together.step(x, y)
        optimizer.step()

    return step


def _pace(step: Callable[[], None], seconds: float, device: str) -> float:
    """Return the seconds of one call, over as many as fit."""
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
    """Return the seconds in which processes running side by side step every replica once."""
    payloads = [(problem, seconds)] * processes
    ended = run_jobs(_alone, payloads, parallel=processes, preload=PRELOAD, watch=lambda *_: None)
    for outcome in ended:
        if outcome.error is not None:
            raise RuntimeError(f"{outcome.error}\n{outcome.log}")
    return problem.replicas / sum(1 / outcome.value for outcome in ended)


def _alone(payload: tuple[Problem, float]) -> float:
    """Return the seconds of one replica's step in a process of its own, with one thread."""
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
