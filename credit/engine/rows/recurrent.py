"""Recurrent modules of torch written out over time: nn.RNN, nn.GRU and nn.LSTM as products, gates and sums that a plan has ops for.

Sources: the equations of torch's documentation of each module, whose biases and orders of gates these are.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from credit.core.errors import UserError

State = tuple[Any, ...]
Cell = Callable[[Any, Any, State | None], State]
"""(the input's part a of a position, the state's part u, the state before it) -> the state (h, ...), tensors (B, ...)."""


def written_out(module: Any, x: Any, hx: Any = None) -> tuple[Any, Any]:
    """Return what a recurrent module returns, its output and last state, by ops for each position of x.

    Args:
        module: nn.RNN, nn.GRU or nn.LSTM.
        x: batch of sequences, (B, T, features) or (T, B, features).
        hx: first state; None: zeros.

    Raises:
        UserError: dropout between layers, or a sequence without a batch.
    """
    name = type(module).__name__
    if x.dim() != 3:
        raise UserError(f"{name} is given one sequence without a batch: give (B, T, features) with batch_first=True")
    if module.dropout and module.training:
        raise UserError(
            f"{name} has dropout={module.dropout:g} between its layers, drawn from the global generator, which a step cannot "
            f"repeat: write one {name} a layer with nn.Dropout between them"
        )
    time = 1 if module.batch_first else 0
    ways = 2 if module.bidirectional else 1
    first = None if hx is None else hx if isinstance(hx, tuple | list) else (hx,)
    ends = []
    for layer in range(module.num_layers):
        outs = []
        for way in range(ways):
            at = layer * ways + way
            state = None if first is None else tuple(part[at] for part in first)
            out, end = _direction(module, f"_l{layer}{'_reverse' * way}", x, time, state, bool(way))
            outs.append(out)
            ends.append(end)
        x = outs[0] if ways == 1 else torch.cat(outs, -1)
    last = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
    return x, last if isinstance(module, nn.LSTM) else last[0]


def _direction(module: Any, suffix: str, x: Any, time: int, state: State | None, back: bool) -> tuple[Any, State]:
    """Return one layer's outputs in one direction, and its last state."""

    def own(role: str) -> Any:
        return getattr(module, role + suffix)

    own_bias = own("bias_hh") if module.bias else None
    parts = F.linear(x, own("weight_ih"), own("bias_ih") if module.bias else None)
    cell, count, outs = _cell(module), x.shape[time], []
    places = range(count)
    for at in reversed(places) if back else places:
        a = parts[:, at] if time else parts[at]
        u = own_bias if state is None else F.linear(state[0], own("weight_hh"), own_bias)
        state = cell(a, u, state)
        if getattr(module, "proj_size", 0):
            state = (F.linear(state[0], own("weight_hr")), *state[1:])
        outs.append(state[0])
    assert state is not None
    return torch.stack(outs[::-1] if back else outs, time), state


def _cell(module: Any) -> Cell:
    if isinstance(module, nn.LSTM):
        return _lstm
    if isinstance(module, nn.GRU):
        return _gru
    act = torch.tanh if module.nonlinearity == "tanh" else torch.relu
    return lambda a, u, _: (act(_sum(a, u)),)


def _sum(a: Any, u: Any) -> Any:
    return a if u is None else a + u


def _lstm(a: Any, u: Any, state: State | None) -> State:
    i, f, g, o = _sum(a, u).chunk(4, -1)
    written = torch.sigmoid(i) * torch.tanh(g)
    c = written if state is None else torch.sigmoid(f) * state[1] + written
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(a: Any, u: Any, state: State | None) -> State:
    a_r, a_z, a_n = a.chunk(3, -1)
    u_r, u_z, u_n = (None, None, None) if u is None else u.chunk(3, -1)
    z = torch.sigmoid(_sum(a_z, u_z))
    n = torch.tanh(a_n if u_n is None else a_n + torch.sigmoid(_sum(a_r, u_r)) * u_n)
    return (n - z * n,) if state is None else (n + z * (state[0] - n),)
