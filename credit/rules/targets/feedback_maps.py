"""Feedback maps: what target propagation learns to send a target from one activation to the one below.

Legend: F_l the network from z_{l-1} to z_l; G_l(t) = act(V t + c) the map back, act the activation that makes z_{l-1}; eps and eta
Gaussian noise. Its losses, means over the batch of sums over units, have no derivative through F_l:

    reconstruction: |G(F(z + eps)) - (z + eps)|^2                                        (Lee et al. 2015, Eq. 13)
    l_drl: -2 <eps, G(F(z + eps)) - G(F(z))> + |G(F(z) + eta) - G(F(z))|^2               (Ernoult et al. 2022)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from credit.core.randomness import generator
from credit.engine.inference.subgraph import Stretch
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.rules.targets.options import TargetOptions
from credit.rules.targets.synapses import Dense, Synapse

ORTHOGONAL = 2**21
"""Weights up to which a map starts orthogonal: the decomposition takes a second there, and grows with the power 1.5."""


@dataclass(frozen=True)
class Answer:
    """What a map makes of values at the upper node.

    Attributes:
        given: those values, (B, *source).
        total: what the activation is given, (B, *target).
        kept: what its derivative is found from.
        value: the answer, (B, *target).
    """

    given: Tensor
    total: Tensor
    kept: Tensor
    value: Tensor


@dataclass(frozen=True)
class FeedbackMap:
    """G_l: from a node, or the logits, to the node below it.

    Attributes:
        lower: the activation below.
        upper: the name of what is above.
        stretch: F_l.
        synapse: V's shape and meaning.
    """

    lower: Activate
    upper: str
    stretch: Stretch
    synapse: Synapse

    @property
    def name(self) -> str:
        """Its parameters' common name."""
        return f"feedback.{self.lower.name}.{self.upper}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its parameters by name: a bias a unit, or a channel where weights are shared among positions."""
        count = self.synapse.shape[0] if isinstance(self.synapse, Dense) else self.synapse.target[0]
        return {f"{self.name}.weight": self.synapse.shape, f"{self.name}.bias": (count,)}

    def begin(self, like: Tensor, seed: int) -> dict[str, Tensor]:
        """Return the parameters it starts with."""
        weight, bias = self.shapes
        start = first_weight(self.synapse, generator(seed, weight)).to(like)
        return {weight: start, bias: like.new_zeros(self.shapes[bias])}

    def parameters(self, params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (V, c)."""
        weight, bias = (params[name] for name in self.shapes)
        return weight, bias

    def _carried(self, run: Run, weight: Tensor, given: Tensor) -> Tensor:
        given = given.to(run.dtype or weight.dtype)
        return self.synapse.carry(weight.to(given.dtype), given, run.overwrite).to(weight.dtype)

    def difference(self, run: Run, own: tuple[Tensor, Tensor], above: Tensor, error: Tensor) -> Tensor:
        """Return G(above) - G(above - error), (B, *target), without the rounding of a difference of near numbers."""
        here, far, function = self.answer(run, own, above), self._carried(run, own[0], error), self.lower.function
        moved = function.value(here.total - far, *self.lower.options)
        return here.value - moved if function.gap is None else function.gap(far, here.value, moved, *self.lower.options)

    def answer(self, run: Run, own: tuple[Tensor, Tensor], given: Tensor) -> Answer:
        """Return G of values at the upper node, (B, *source)."""
        weight, bias = own
        sent = self._carried(run, weight, given)
        shape = self.synapse.target if isinstance(self.synapse, Dense) else (-1, *[1] * (sent.dim() - 2))
        total = sent + bias.view(shape)
        function, options = self.lower.function, self.lower.options
        value = function.value(total, *options)
        return Answer(given.to(run.dtype or weight.dtype), total, value if function.keeps == "output" else total, value)

    def gradients(self, run: Run, pairs: list[tuple[Answer, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the derivatives by V and c of a sum of <signal, value> over some answers."""
        vjp = self.lower.function.vjp
        assert vjp is not None
        found: list[tuple[Tensor, Tensor]] = []
        for answer, signal in pairs:
            signal = vjp(signal, answer.kept, *self.lower.options)
            flat = signal.flatten(1).sum(0) if isinstance(self.synapse, Dense) else signal.flatten(2).sum((0, 2))
            product = self.synapse.product(signal.to(answer.given.dtype), answer.given, run.overwrite)
            found.append((product.to(signal.dtype), flat))
        weight, bias = found[0]
        for more, shift in found[1:]:
            weight, bias = weight + more, bias + shift
        return weight, bias

    # ------------------------------------------------------------ learning

    def learn(self, chosen: TargetOptions, run: Run, x: Tensor, low: Tensor, high: Tensor) -> dict[str, Tensor]:
        """Return the updates of V and c: a gradient, or the sum of those of several steps of gradient descent.

        Args:
            chosen: loss, noise, number of steps and their learning rate.
            run: of the forward pass, with all it has kept.
            x: the batch, (B, ...).
            low, high: what the forward pass found at the lower and the upper node.
        """
        own = self.parameters(run.params)
        total = self._step(chosen, run, x, low, high, own, "")
        for at in range(2, chosen.feedback_steps + 1):
            assert chosen.feedback_lr is not None
            now = own[0] - chosen.feedback_lr * total[0], own[1] - chosen.feedback_lr * total[1]
            made = self._step(chosen, run, x, low, high, now, str(at))
            total = total[0] + made[0], total[1] + made[1]
        return dict(zip(self.shapes, total, strict=True))

    def _step(
        self, chosen: TargetOptions, run: Run, x: Tensor, low: Tensor, high: Tensor, own: tuple[Tensor, Tensor], at: str
    ) -> tuple[Tensor, Tensor]:
        moved = low.to(own[1].dtype)
        eps = self._noise(chosen, run, moved, f"noise{at}")
        moved = moved if eps is None else moved + eps
        found = self.answer(run, own, self.stretch(run, x, moved.to(low.dtype)))
        share = 2.0 / run.batch
        if chosen.feedback_loss == "reconstruction":
            return self.gradients(run, [(found, (found.value - moved) * share)])
        assert eps is not None
        high = high.to(own[1].dtype)
        eta = self._noise(chosen, run, high, f"eta{at}")
        assert eta is not None
        here, beside = self.answer(run, own, high), self.answer(run, own, high + eta)
        eps, gap = eps * share, (beside.value - here.value) * share
        return self.gradients(run, [(found, -eps), (here, eps - gap), (beside, gap)])

    def _noise(self, chosen: TargetOptions, run: Run, like: Tensor, what: str) -> Tensor | None:
        if chosen.noise_std == 0:
            return None
        drawn: Tensor = run.draws.get(f"{self.name}.{what}", "normal", tuple(like.shape), like.dtype, True)
        return drawn * chosen.noise_std


def first_weight(synapse: Synapse, source: torch.Generator) -> Tensor:
    """Return the weight that a map starts with (float64): orthogonal, as near as the original; large ones normal, of its size."""
    weight = torch.empty(synapse.shape, dtype=torch.float64)
    if weight.numel() > ORTHOGONAL:
        return weight.normal_(0, max(synapse.shape[0], weight.numel() // synapse.shape[0]) ** -0.5, generator=source)
    return torch.nn.init.orthogonal_(weight, generator=source)
