"""Rows of spiking modules, and what a network of them must keep to: where time begins and where it ends."""

from typing import Any

from torch import nn

from credit.core.errors import UserError
from credit.engine.builder import Builder, Row, Val
from credit.engine.ops.arithmetic import Cat
from credit.engine.ops.base import Op
from credit.engine.ops.local import Local
from credit.engine.ops.shapes import Expand, Select, Shape, Split, Stack, Value
from credit.engine.ops.spiking import Lif, Readout


def lif(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(
        Lif, x, steps=m.steps, beta=m.beta, threshold=m.threshold, reset=m.reset, reset_delay=m.reset_delay,
        constant=m.constant, surrogate=m.surrogate, slope=m.surrogate_slope,
    )  # fmt: skip


def count(b: Builder, m: Any, x: Val) -> Val:
    return b.emit(Readout, x, steps=m.steps)


# By what a module of any class calls itself in ``spiking_kind``.
SPIKING: dict[str, Row] = {"lif": lif, "count": count}

# A value of one row a sample, without time; of rows that an op laid out, so that nobody knows; and one without samples.
_ONCE, _UNKNOWN, _NONE = 0, -1, -2
_LAYS_OUT = (Expand, Stack, Cat, Select, Split, Local)


def check_time(model: nn.Module, ops: list[Op], entry: int, exit: int) -> None:
    """Set each op's ``steps``; refuse values that are not (steps * batch, ...) exactly between the first LIF and the readout.

    Raises:
        UserError: naming the layers.
    """
    if not any(isinstance(op, Lif | Readout) for op in ops):
        return
    time: dict[int, int] = {entry: _ONCE}
    began: dict[int, Op] = {}
    where = f" in {type(model).__name__}"
    for op in ops:
        known = [time[slot] for slot in op.inputs if time.get(slot, _NONE) != _NONE]
        spiking = max(known, default=_NONE)
        source = next((began[slot] for slot in op.inputs if slot in began), None)
        if isinstance(op, Lif):
            time[op.out], began[op.out] = _enter(op, spiking, source, where), op
        elif isinstance(op, Readout):
            time[op.out] = _leave(op, spiking, source, where)
        elif isinstance(op, Shape | Value):
            time[op.out] = _NONE
        else:
            time[op.out] = _UNKNOWN if spiking == _ONCE and isinstance(op, _LAYS_OUT) else spiking
            if source is not None:
                began[op.out] = source
                _refuse_mixture(op, known, source, where)
        op.steps = max(1, time[op.out])
    if exit in began and time[exit] > 0:
        raise UserError(
            f"{type(model).__name__} ends with {time[exit]} time steps of every image, those of {began[exit].describe()}: labels "
            f"belong to images. End with SpikeCount({time[exit]}), which counts the spikes and gives logits (B, classes); layers "
            "without spikes may stand between an LIF and it, or after it"
        )


def _enter(op: Lif, spiking: int, source: Op | None, where: str) -> int:
    steps: int = op.args["steps"]
    if op.args["constant"] and spiking > 0 and source is not None:
        raise UserError(
            f"{op.describe()}{where} has constant=True, one current an image, but what it is given has {spiking} time steps "
            f"already, those of {source.describe()}: write constant=False there; only the first LIF takes images"
        )
    if not op.args["constant"] and spiking == _ONCE:
        raise UserError(
            f"{op.describe()}{where} takes currents of {steps} time steps, (steps * batch, ...), but what lies below it runs once "
            f"an image: write LIF({steps}, ..., constant=True) there, the same current at every step"
        )
    if not op.args["constant"] and spiking > 0 and spiking != steps and source is not None:
        raise UserError(
            f"{op.describe()}{where} runs over {steps} time steps, but {source.describe()} below it over {spiking}: give both the "
            "same steps"
        )
    return steps


def _leave(op: Readout, spiking: int, source: Op | None, where: str) -> int:
    steps: int = op.args["steps"]
    if spiking in (_ONCE, _NONE):
        raise UserError(
            f"{op.describe()}{where} counts the spikes of {steps} time steps, but no LIF below it makes any: put "
            f"LIF({steps}, beta, constant=True) before it, or leave the count out"
        )
    if spiking > 0 and spiking != steps and source is not None:
        raise UserError(
            f"{op.describe()}{where} counts over {steps} time steps, but {source.describe()} runs over {spiking}: write "
            f"SpikeCount({spiking})"
        )
    return _ONCE


def _refuse_mixture(op: Op, known: list[int], source: Op, where: str) -> None:
    timed = {value for value in known if value > 0}
    if timed and (_ONCE in known or len(timed) > 1):
        raise UserError(
            f"{op.describe()}{where} joins values of different times: the spikes of {source.describe()}, (steps * batch, ...), "
            "with values of other steps or with one an image. Join them before the first LIF or after SpikeCount"
        )
