"""Time and peak memory of one step, as ratios to a plain autograd step on the same model and batch in the same run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.core.errors import UserError
from credit.rules import api
from credit.training.backends.memory import peak_bytes


@dataclass(frozen=True)
class Ratio:
    """One row of ``credit bench``.

    Attributes:
        time: median over alternating pairs of the rule's seconds over autograd's (or another yardstick's).
        low, high: quartiles of those ratios.
        memory: peak bytes allocated during the rule's step over autograd's, gradients included, parameters not.
        step_ms, autograd_ms: medians, for orientation only.
        pairs: how many pairs were timed.
    """

    time: float
    low: float
    high: float
    memory: float | None
    step_ms: float
    autograd_ms: float
    pairs: int


def autograd_step(model: nn.Module, compiled: bool) -> Callable[[Tensor, Tensor], None]:
    """Return the yardstick: cross-entropy, ``backward()``, gradients dropped before each step."""
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step(x: Tensor, y: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        logits = forward(x)  # held until the step ends, as by a loop that logs accuracy and by ``Step``
        F.cross_entropy(logits, y).backward()

    return step


def satisfied(model: nn.Module, x: Tensor, share: float) -> tuple[Tensor, float]:
    """Return labels (B,) and a margin that ``share`` of the batch meets on this model, and no other sample.

    The samples with the largest lead of one logit over the next get that class for a label, the others the class after it;
    the margin is the smallest of those leads (a whisker less, so that rounding violates none). Only labels and margin are
    chosen: the step that is measured runs forwards on the whole batch, as in training.

    Args:
        model: without dropout, so that its logits are the step's.
        x: batch (B, ...).
        share: of the samples, in [0, 1].
    """
    with torch.no_grad():
        leads, places = model(x).topk(2, 1)
    leads = leads[:, 0] - leads[:, 1]
    chosen = leads.argsort(descending=True)[: round(share * len(x))]
    y = places[:, 1].clone()
    y[chosen] = places[chosen, 0]
    return y, 0.999 * float(leads[chosen].min()) if len(chosen) else 1.0


def compare_satisfied(model: nn.Module, x: Tensor, share: float, *, seconds: float = 6.0) -> Ratio:
    """Return the ratios of a ``lisp_margin`` step where ``share`` of the samples meets the margin (see ``satisfied``).

    Args:
        model, x, seconds: as for ``compare``.
        share: in [0, 1].

    Raises:
        UserError: the step that is measured found another share.
    """
    y, margin = satisfied(model, x, share)
    # What is measured is the sweep: clipping costs a step of any share the same.
    options: dict[str, Any] = {"margin": margin, "clip": None, "sparse": "auto" if x.device.type == "cpu" else True}
    found = 1 - float(api.rule("lisp_margin", model, **options).step(x, y).signals["output.active"])
    if abs(found - share) > 1 / len(x):
        raise UserError(
            f"{share:.0%} of the samples should meet the margin, but {found:.0%} do: the model draws at random"
        )
    return compare("lisp_margin", model, x, y, seconds=seconds, **options)


def compare(name: str, model: nn.Module, x: Tensor, y: Tensor, *, compiled: bool = False, seconds: float = 6.0,
            **options: Any) -> Ratio:  # fmt: skip
    """Return the ratios of rule ``name`` on ``model`` and batch (x, y).

    Args:
        name: a rule's name.
        model: in train mode, on x's device.
        x, y: one batch.
        compiled: compile both sides with ``torch.compile``.
        seconds: about how long to measure; at least 5 pairs are timed.
        options: the rule's.
    """
    rule = api.rule(name, model, compile=compiled, **options)
    plain = autograd_step(model, compiled)

    def ours(x: Tensor, y: Tensor) -> None:
        rule.step(x, y)

    return against((model, ours), (model, plain), x, y, seconds=seconds, memory=not compiled)


Side = tuple[nn.Module, Callable[[Tensor, Tensor], None]]
"""A network and its step."""


def against(ours: Side, yardstick: Side, x: Tensor, y: Tensor, *, seconds: float, memory: bool = True) -> Ratio:
    """Return the ratios of one side's step to the other's, both on batch (x, y)."""
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
        # Which goes first changes every pair, so that neither profits from the other's warm cache.
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
