"""Benchmark of one training step: time and peak memory divided by those of an autograd step on the same model and batch."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from credit.core.errors import UserError
from credit.engine.compilation import compile_step, settings_of
from credit.rules import api
from credit.training.backends.memory import peak_bytes

MODES: dict[str, bool | str] = {"eager": False, "compiled": True, "graphs": "reduce-overhead"}
"""The argument ``compile`` of both sides of a comparison, by mode; ``graphs`` are CUDA graphs of compiled steps."""


@dataclass(frozen=True)
class Ratio:
    """One row of ``credit bench``.

    Attributes:
        time: median, over alternating pairs, of the rule's time divided by autograd's (or another reference's).
        low, high: quartiles of these ratios.
        memory: peak bytes allocated during the rule's step, divided by autograd's; includes gradients but not parameters. None if
            not measured.
        step_ms, autograd_ms: median milliseconds of a step, for orientation.
        pairs: number of pairs timed.
        skipped: number of compiled programs that torch did not replay as CUDA graphs although asked to, on both sides.
    """

    time: float
    low: float
    high: float
    memory: float | None
    step_ms: float
    autograd_ms: float
    pairs: int
    skipped: int = 0


def forward_of(model: nn.Module, mode: str) -> Callable[..., Any]:
    """Return a network's forward pass in a mode of `MODES`, compiled as steps of rules are."""
    if not MODES[mode]:
        return model
    return compile_step(model, settings_of(MODES[mode]), f"the forward pass of {type(model).__name__}")


def skipped_graphs() -> int:
    """Return the number of programs that torch has not replayed as CUDA graphs although asked to, in this process."""
    return counters["inductor"]["cudagraph_skips"]


def autograd_step(model: nn.Module, mode: str) -> Callable[[Tensor, Tensor], None]:
    """Return the reference step: gradients set to None, forward pass, cross-entropy and ``backward()``.

    Args:
        model: the network, in train mode.
        mode: a key of `MODES`; the backward pass is compiled with the forward pass.
    """
    forward = forward_of(model, mode)

    def step(x: Tensor, y: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        logits = forward(x)  # referenced until the step ends, as in a loop that logs accuracy and in ``Step``
        F.cross_entropy(logits, y).backward()

    return step


def satisfied(model: nn.Module, x: Tensor, share: float) -> tuple[Tensor, float]:
    """Return labels (B,) and a margin that exactly a given fraction of a batch satisfies on a model.

    The samples with the largest difference between the two largest logits are labeled with their first class, the others with
    their second. The margin is the smallest difference of the former, times 0.999 to allow for rounding. Only labels and margin
    are chosen: the measured step has a forward pass on the whole batch, as in training.

    Args:
        model: a network without dropout, so that its logits are those of the step.
        x: batch of inputs (B, ...).
        share: fraction of the samples, in [0, 1].
    """
    with torch.no_grad():
        leads, places = model(x).topk(2, 1)
    leads = leads[:, 0] - leads[:, 1]
    chosen = leads.argsort(descending=True)[: round(share * len(x))]
    y = places[:, 1].clone()
    y[chosen] = places[chosen, 0]
    return y, 0.999 * float(leads[chosen].min()) if len(chosen) else 1.0


def compare_satisfied(model: nn.Module, x: Tensor, share: float, *, seconds: float = 6.0) -> Ratio:
    """Compare a step of ``lisp_margin`` in which a fraction of the samples satisfies the margin with autograd's (see `satisfied`).

    Args:
        model, x, seconds: as in `compare`.
        share: fraction of the samples, in [0, 1].

    Raises:
        UserError: another fraction satisfies the margin in the step, because the model draws random numbers.
    """
    y, margin = satisfied(model, x, share)
    # Clipping costs the same for any fraction, so that it is left out.
    options: dict[str, Any] = {"margin": margin, "clip": None, "sparse": "auto" if x.device.type == "cpu" else True}
    found = 1 - float(api.rule("lisp_margin", model, **options).step(x, y).signals["output.active"])
    if abs(found - share) > 1 / len(x):
        raise UserError(
            f"{share:.0%} of the samples should meet the margin, but {found:.0%} do: the model draws at random"
        )
    return compare("lisp_margin", model, x, y, seconds=seconds, **options)


def compare(name: str, model: nn.Module, x: Tensor, y: Tensor, *, mode: str = "eager", seconds: float = 6.0,
            **options: Any) -> Ratio:  # fmt: skip
    """Compare a step of a rule with autograd's on the same model and batch.

    Args:
        name: name of the rule.
        model: the network, in train mode, on the device of x.
        x, y: a batch of inputs (B, ...) and labels (B,).
        mode: a key of `MODES`, of both sides.
        seconds: approximate duration of the measurement; at least 5 pairs are timed.
        options: options of the rule.
    """
    rule = api.rule(name, model, compile=MODES[mode], **options)
    plain, before = autograd_step(model, mode), skipped_graphs()

    def ours(x: Tensor, y: Tensor) -> None:
        rule.step(x, y)

    found = against((model, ours), (model, plain), x, y, seconds=seconds, memory=mode == "eager")
    return replace(found, skipped=skipped_graphs() - before)


Side = tuple[nn.Module, Callable[[Tensor, Tensor], None]]
"""A network and its step, a function of x (B, ...) and y (B,)."""


def against(ours: Side, yardstick: Side, x: Tensor, y: Tensor, *, seconds: float, memory: bool = True) -> Ratio:
    """Return the ratios of one side's step to a reference's on the same batch.

    Args:
        ours, yardstick: the step to measure and the reference.
        x, y: a batch of inputs (B, ...) and labels (B,).
        seconds: approximate duration of the measurement; at least 5 pairs are timed.
        memory: also measure peak memory.
    """
    for _ in range(3):
        ours[1](x, y)
        yardstick[1](x, y)
    a, b = _alternate(ours[1], yardstick[1], x, y, seconds)
    ratios = sorted(p / q for p, q in zip(a, b, strict=True))
    peaks = _peak(*ours, x, y) / _peak(*yardstick, x, y) if memory else None
    quarter = len(ratios) // 4
    return Ratio(
        time=statistics.median(ratios),
        low=ratios[quarter],
        high=ratios[-1 - quarter],
        memory=peaks,
        step_ms=statistics.median(a) * 1e3,
        autograd_ms=statistics.median(b) * 1e3,
        pairs=len(ratios),
    )


def _peak(model: nn.Module, step: Callable[[Tensor, Tensor], None], x: Tensor, y: Tensor) -> int:
    model.zero_grad(set_to_none=True)
    return peak_bytes(step, x, y)


def _alternate(
    ours: Callable[[Tensor, Tensor], None],
    plain: Callable[[Tensor, Tensor], None],
    x: Tensor,
    y: Tensor,
    seconds: float,
) -> tuple[list[float], list[float]]:
    a: list[float] = []
    b: list[float] = []
    end = time.perf_counter() + seconds
    while len(a) < 5 or (time.perf_counter() < end and len(a) < 400):
        # The order alternates, so that neither side profits from a cache that the other has warmed.
        order = (a, b) if len(a) % 2 else (b, a)
        for into in order:
            into.append(_seconds(ours if into is a else plain, x, y))
    return a, b


def _seconds(step: Callable[[Tensor, Tensor], None], x: Tensor, y: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    step(x, y)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start
