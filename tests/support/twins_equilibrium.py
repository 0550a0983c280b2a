"""Slow twins of equilibrium propagation and contrastive Hebbian learning in numpy, from the equations, nothing of credit's.

Legend: s_k state, f_k its activation, W_{k-1} the map from state k - 1 to state k, l the loss, beta the nudge of equilibrium
propagation (Scellier and Bengio 2017; both signs: Laborieux et al. 2021), gamma the gain of the feedback of contrastive
Hebbian learning (Xie and Seung 2003). All states move at once, each from the values of the step before.
One sample after the other; the layers' products s_k s_{k-1}^T are those of ``twins_states``' parts.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.support.twins_states import Array, Found, Network, above, predict, residual_of

Output = Callable[[Array, Array], Array]


def settle(net: Network, states: Sequence[Array], steps: int, gain: float, output: Output) -> list[Array]:
    """s_k <- f_k(W_{k-1} s_{k-1} + b + gain W_k^T s_{k+1}) for all k at once; s_L <- output(a_L, s_L), f_L included."""
    last = len(net)
    for _ in range(steps):
        moved = [states[0]]
        from_below = [node.below(states) for node in net]  # sets the switches of max-pools before anything goes down
        for k, node in enumerate(net, 1):
            a = from_below[k - 1]
            if k == last:
                moved.append(output(a, states[last]))
                continue
            fed = np.zeros_like(a)
            for j, branch in above(net, k):
                fed += gain * branch.back(states[j])
            moved.append(node.f(a + fed))
        states = moved
    return list(states)


def products(net: Network, states: Sequence[Array], sign: float, scale: Callable[[int], float]) -> Found:
    """sign * scale(k) * s_k s_{k-1}^T in the layer below each state k, and the same of s_k for its bias."""
    found = Found()
    for k, node in enumerate(net, 1):
        node.below(states)
        for branch in node.branches:
            branch.update(sign * scale(k) * states[k], found)
    return found


def start_of(net: Network, x: Array, start: str) -> list[Array]:
    """Where the free phase starts: an ordinary forward pass, or zeros."""
    states = predict(net, x)
    return states if start == "forward" else [x, *(np.zeros_like(state) for state in states[1:])]


def eqprop(
    net: Network, x: Array, y: Sequence[int], *, loss: str = "half_sse", beta: float = 0.5, phases: int = 2,
    free_steps: int = 30, nudged_steps: int = 10, start: str = "zeros",
) -> tuple[dict[str, Array], list[list[list[Array]]]]:  # fmt: skip
    """Updates by name (descent, mean of samples) and, for each sample, the states of every phase.

    The output state is s_L = f_L(a_L) in the free phase and f_L(a_L - beta dl/ds_L) in the nudged ones; f_L is the identity where
    the network ends in a linear layer (Scellier and Bengio 2017: s_L = f(a_L - beta (s_L - y))).

    Two phases: -(s^beta s^beta - s^0 s^0) / beta; three: -(s^beta s^beta - s^-beta s^-beta) / (2 beta). Nudged phases start
    from the free one's end.
    """
    found, kept, f = Found(), [], net[-1].f
    for x_b, y_b in zip(x.reshape(len(x), -1), y, strict=True):
        free = settle(net, start_of(net, x_b, start), free_steps, 1.0, lambda a, s: f(a))
        ends = [free]
        for sign in (1.0, -1.0)[: phases - 1]:
            nudged = lambda a, s, sign=sign, y_b=y_b: f(a - sign * beta * residual_of(loss, s, int(y_b)))  # noqa: E731 - an output
            ends.append(settle(net, free, nudged_steps, 1.0, nudged))
        other, apart = (free, beta) if phases == 2 else (ends[2], 2 * beta)
        for states, sign in ((ends[1], -1.0), (other, 1.0)):
            for name, update in products(net, states, sign, lambda k: 1.0).updates.items():
                found.add(name, update / (apart * len(x)))
        kept.append(ends)
    return found.updates, kept


def chl(
    net: Network, x: Array, y: Sequence[int], *, gamma: float, free_steps: int = 30, clamped_steps: int = 10,
    start: str = "zeros",
) -> tuple[dict[str, Array], list[list[list[Array]]]]:  # fmt: skip
    """Updates by name (descent, mean of samples) and, for each sample, the states of both phases.

    Xie and Seung, Eq. 8: the layer below state k gets gamma^(k-L) (clamped s_k s_{k-1}^T - free s_k s_{k-1}^T).
    """
    found, kept, last = Found(), [], len(net)
    for x_b, y_b in zip(x.reshape(len(x), -1), y, strict=True):
        free = settle(net, start_of(net, x_b, start), free_steps, gamma, lambda a, s: net[last - 1].f(a))
        target = np.zeros_like(free[last])
        target[int(y_b)] = 1.0
        begin = [*free[:last], target]
        clamped = settle(net, begin, clamped_steps, gamma, lambda a, s: s)
        for states, sign in ((clamped, -1.0), (free, 1.0)):
            for name, update in products(net, states, sign, lambda k: gamma ** (k - last)).updates.items():
                found.add(name, update / len(x))
        kept.append([free, clamped])
    return found.updates, kept
