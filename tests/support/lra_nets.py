"""Small networks for rules of targets in float64, and the way from torch to their twins."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.support import dual_nets, nets
from tests.support.dual_nets import weights
from tests.support.twins_states import Branch, Network, Node


class Stacked(nn.Module):
    """A multi-layer perceptron with sums around its layers: fc1, act1, ..., head.

    h_l = W_l z_{l-1}, plus z_{l-gap} where gap divides l and the widths agree; z_0 is the input, the head has no sum.
    """

    def __init__(
        self, activation: str, widths: Sequence[int], gap: int = 0, seed: int = 1, spread: float = 1.5
    ) -> None:
        super().__init__()
        self.word, self.widths, self.gap = activation, tuple(widths), gap
        for number, (fan_in, fan_out) in enumerate(zip(widths[:-2], widths[1:-1], strict=True), 1):
            self.add_module(f"fc{number}", nn.Linear(fan_in, fan_out))
            self.add_module(f"act{number}", nets.ACTIVATIONS[activation]())
        self.head = nn.Linear(widths[-2], widths[-1])
        dual_nets.double(self, seed, spread)

    def around(self, number: int) -> int | None:
        """The number of the layer whose output is added to this one's, if any."""
        if self.gap and number % self.gap == 0 and self.widths[number] == self.widths[number - self.gap]:
            return number - self.gap
        return None

    def forward(self, x: Tensor) -> Tensor:
        z = [torch.flatten(x, 1)]
        for number in range(1, len(self.widths) - 1):
            h = self.get_submodule(f"fc{number}")(z[-1])
            beside = self.around(number)
            if beside is not None:
                h = h + z[beside]
            z.append(self.get_submodule(f"act{number}")(h))
        out: Tensor = self.head(z[-1])
        return out

    def network(self) -> Network:
        """The twin's: node l is act<l>, the last one the logits."""
        made = []
        for number in range(1, len(self.widths) - 1):
            name = f"fc{number}"
            branches = [Branch(number - 1, [weights(name, self.get_submodule(name), ())])]
            beside = self.around(number)
            made.append(Node([*branches, *([] if beside is None else [Branch(beside, [])])], self.word))
        return [*made, Node([Branch(len(made), [weights("head", self.head, ())])])]
