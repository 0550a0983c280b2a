"""How strongly a state's feedback answers its own value: ``|W_k^T W_k|`` of the maps above it, by power iteration.

What stabilises the fixed-point iterations of dual propagation where they are asymmetric (paper 3, Appendix F, Eq. 50).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from credit.engine.inference.program import Actor, Work
from credit.engine.inference.segments import Segments, State
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Op, Run, resolve
from credit.engine.ops.chance import Dropout
from credit.engine.ops.pools import AdaptivePool, MaxPool, Pool
from credit.engine.ops.weighted import Weighted


def strength(form: str, eigenvalue: Tensor) -> Tensor:
    """Return L of Eq. 50 from the largest eigenvalue gamma^2 of ``W^T W``, gamma the spectral norm of W.

    ``norm``: gamma^2, the paper's. ``half_excess``: max(0, (gamma^2 - 1) / 2), the authors' JAX code.
    """
    return eigenvalue if form == "norm" else ((eigenvalue - 1) / 2).clamp_(min=0)


def spectral(
    work: Work, segments: Segments, state: State, ratios: Mapping[int, float], actor: Actor, iterations: int
) -> Tensor:
    """Return the largest eigenvalue of ``sum_c ratio_c J_c^T J_c``, J_c the linear map from a state to a child's input.

    Args:
        work: after a forward pass, whose switches and masks the maps have.
        segments, state: where.
        ratios: ``beta_k / beta_c`` by the child's number.
        actor: crosses weights on the way back.
        iterations: of power iteration, from a normal vector that is the same at every step.

    Returns:
        (B, 1, ...), or (1, 1, ...) where the maps are the same for all samples.
    """
    ops = [op for op in segments.plan.ops if _between(segments, op, state.index)]
    # Each sample has maps of its own where there are switches, masks, or sums with what no state has made.
    own = any(_routes(op) or not all(segments.numbers(slot) for slot in op.inputs) for op in ops)
    value: Tensor = work.values[state.out]
    run = replace(work.run, saved=list(work.run.saved))
    lanes = value.shape[0] if own else 1
    draw = work.run.draws.get(f"damping.{state.index}", "normal", (lanes, *value.shape[1:]), value.dtype, own)
    size = value.new_ones((lanes, *[1] * (value.dim() - 1)))
    for _ in range(iterations):
        draw = draw / _lengths(draw)
        pushed = _push(work, run, segments, ops, {state.out: draw}, lanes)
        signals: dict[int, Tensor] = {}
        for child, ratio in ratios.items():
            slot = segments.by_number[child].pre
            signals[slot] = pushed[slot] * ratio + signals.get(slot, 0.0)
        draw = _pull(run, ops, signals, state.out, actor)
        size = _lengths(draw)
    return size


def _between(segments: Segments, op: Op, number: int) -> bool:
    if isinstance(op, Activate) or op.out not in segments.reached:
        return False
    return any(number in segments.numbers(slot) for slot in op.inputs)


def _routes(op: Op) -> bool:
    """Whether what an op does is each sample's own: by its maxima, or by a mask."""
    return isinstance(op, Dropout | MaxPool) or (isinstance(op, AdaptivePool) and op.args["mode"] == "max")


def _lengths(value: Tensor) -> Tensor:
    lengths = torch.linalg.vector_norm(value.flatten(1), dim=1).clamp(min=torch.finfo(value.dtype).tiny)
    return lengths.view(-1, *[1] * (value.dim() - 1))


def _push(
    work: Work, run: Run, segments: Segments, ops: list[Op], pushed: dict[int, Any], lanes: int
) -> dict[int, Any]:
    """Send a vector (lanes, ...) forwards through the linear part of each op."""
    for op in ops:
        given: list[Any] = [pushed.get(slot) for slot in op.inputs]
        if isinstance(op, Weighted):
            run.saved[op.index] = op.cast(run, given[0])
            pushed[op.out] = op.map(run, run.saved[op.index], op.weight(run), None)
        elif isinstance(op, Pool | Dropout) and _routes(op):
            pushed[op.out] = op.follow(run, given[0])
        else:
            # What does not move with the vector, a shift or another branch, drops out of the difference.
            rest = resolve(op.extra, work.values)
            known = list(given)
            for at, slot in enumerate(op.inputs):
                if known[at] is None:  # a state's has as many lanes; a parameter has none
                    known[at] = work.values[slot][:lanes] if segments.numbers(slot) else work.values[slot]
            still = [known[at] if one is None else torch.zeros_like(one) for at, one in enumerate(given)]
            pushed[op.out] = op.forward(run, *known, *rest) - op.forward(run, *still, *rest)
    return pushed


def _pull(run: Run, ops: list[Op], signals: dict[int, Tensor], slot: int, actor: Actor) -> Tensor:
    """Send vectors back to a slot."""
    for op in reversed(ops):
        if op.out not in signals:
            continue
        kept = run.saved[op.index]
        here = signals[op.out].to(run.dtypes.get(op.out, signals[op.out].dtype))
        sent = (actor.backproject(op, run, here),) if isinstance(op, Weighted) else op.adjoint(run, here)
        run.saved[op.index] = kept
        for below, signal in zip(op.inputs, sent, strict=True):
            if signal is not None:
                signals[below] = signals[below] + signal if below in signals else signal
    return signals[slot]
