"""Recurrent networks for next-token prediction, written out over time, so that every step's weights and gates are a rule's own.

Each layer computes its input's part for all positions at once, and the recurrent part position by position from a state of 0.
"""

import torch
from torch import Tensor, nn

from credit.models.checks import tokens
from credit.models.options import RnnOptions

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""By cell, how many times the width its linear maps are."""


class Layer(nn.Module):
    """One recurrent layer over T positions: maps (B, T, inputs) to the states (B, T, width).

    The cells, with a the input's part (W x + b) and u = U h the state's: ``rnn``: h = tanh(a + u). ``gru`` (Cho et al. 2014):
    r, z = sigmoid(a + u), n = tanh(a_n + r u_n), h = n + z (h - n). ``lstm`` (Hochreiter and Schmidhuber 1997):
    i, f, o = sigmoid(a + u), g = tanh(a_g + u_g), c = f c + i g, h = o tanh(c).

    Args:
        kind: of `GATES`.
        inputs, width: features of the input and of the state.
        context: T.
    """

    def __init__(self, kind: str, inputs: int, width: int, context: int) -> None:
        super().__init__()
        self.kind, self.width, self.context = kind, width, context
        self.input = nn.Linear(inputs, GATES[kind] * width)
        self.state = nn.Linear(width, GATES[kind] * width, bias=False)
        self.sigmoid, self.tanh = nn.Sigmoid(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        parts = self.input(x)
        state: tuple[Tensor, ...] | None = None
        states = []
        for at in range(self.context):
            state = self._cell(parts[:, at], state)
            states.append(state[0])
        return torch.stack(states, 1)

    def _cell(self, a: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        """Return the next state: (h,), of an LSTM (h, c); ``state`` is None at the first position, where h and c are 0."""
        u = None if state is None else self.state(state[0])
        if self.kind == "rnn":
            return (self.tanh(a if u is None else a + u),)
        if self.kind == "gru":
            return self._gru(a, u, None if state is None else state[0])
        summed = a if u is None else a + u
        i, f, g, o = summed.chunk(4, 1)
        written = self.sigmoid(i) * self.tanh(g)
        c = written if state is None else self.sigmoid(f) * state[1] + written
        return self.sigmoid(o) * self.tanh(c), c

    def _gru(self, a: Tensor, u: Tensor | None, h: Tensor | None) -> tuple[Tensor, ...]:
        gates, own = a[:, : 2 * self.width], a[:, 2 * self.width :]
        if u is None or h is None:
            _, z = self.sigmoid(gates).chunk(2, 1)
            n = self.tanh(own)
            return (n - z * n,)
        r, z = self.sigmoid(gates + u[:, : 2 * self.width]).chunk(2, 1)
        n = self.tanh(own + r * u[:, 2 * self.width :])
        return (n + z * (h - n),)


class Rnn(nn.Module):
    """Embedding of tokens, recurrent layers and a linear head; maps tokens (B, T) to logits (B, T, V).

    Args:
        context: T, number of positions.
        size: V, number of tokens.
        options: see `credit.models.options.RnnOptions`.
    """

    def __init__(self, context: int, size: int, options: RnnOptions) -> None:
        super().__init__()
        self.token = nn.Embedding(size, options.width)
        layers = (Layer(options.cell, options.width, options.width, context) for _ in range(options.layers))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(options.width, size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(self.token(x)))
        return out


def rnn(shape: tuple[int, ...], classes: int, options: RnnOptions) -> nn.Module:
    """Build a recurrent network.

    Parameters: 33 153 with the defaults on 65 tokens (a GRU of width 64).

    Args:
        shape: (T,), tokens of an example.
        classes: number of different tokens.
        options: see `credit.models.options.RnnOptions`.

    Raises:
        UserError: the data's examples are no sequences.
    """
    return Rnn(tokens("rnn", shape), classes, options)
