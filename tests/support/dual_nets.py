"""Small networks for dual and equilibrium propagation in float64, and the way from torch to their twins."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.rules.lfp.test_lfp_twins import extent, image, numbers
from tests.support import nets, twins_lfp, twins_states
from tests.support.twins_states import Branch, Network, Node, Part


def double(layers: nn.Module, seed: int, spread: float) -> Any:
    made = layers.double()
    nets._randomize(made, seed, spread)
    return made


def mlp(
    activation: str = "relu", widths: tuple[int, ...] = (7, 8, 6, 5), seed: int = 1, spread: float = 1.2
) -> nn.Sequential:
    """Three layers, numbers 0, 2, 4."""
    return nets.mlp(activation, widths, seed, spread)


def conv(order: str, activation: str = "relu", seed: int = 2, spread: float = 1.2) -> nn.Sequential:
    """Three layers for images (2, 6, 5): windows of the pools overlap; ``order`` says where pools stand.

    act-max: the pool belongs to the map above its state; max-act: to the map below it; both: conv - pool - act - pool - conv;
    average: mean in place of maximum; linear: a convolution without an activation behind it; later: conv - act - conv - pool
    - act - conv; quarters, means: windows of 2x2 side by side, which have kernels of their own.
    """
    act = nets.ACTIVATIONS[activation]
    first = nn.Conv2d(2, 3, (1, 2)) if order in ("quarters", "means") else nn.Conv2d(2, 3, 3, padding=1)
    middle = {
        "act-max": [act(), nn.MaxPool2d(3, 2, 1)],
        "max-act": [nn.MaxPool2d(3, 2, 1), act()],
        "both": [nn.MaxPool2d(2, 1), act(), nn.MaxPool2d(2, 2)],
        "average": [nn.AvgPool2d(2, 1), act(), nn.AvgPool2d(3, 2, 1)],
        "linear": [act(), nn.Conv2d(3, 2, 2), nn.MaxPool2d(2)],
        "quarters": [act(), nn.MaxPool2d(2)],
        "means": [act(), nn.AvgPool2d(2)],
        "later": [act(), nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(3, 2, 1), act()],
    }[order]
    body: list[nn.Module] = [first, *middle]
    with torch.no_grad():
        channels = nn.Sequential(*body)(torch.zeros(1, 2, 6, 5)).shape[1]
        body += [nn.Conv2d(channels, 4, 2, bias=False), act()]
        width = nn.Sequential(*body)(torch.zeros(1, 2, 6, 5)).numel()
    return double(nn.Sequential(*body, nn.Flatten(), nn.Linear(width, nets.CLASSES)), seed, spread)


IMAGE = (2, 6, 5)


class Residual(nn.Module):
    """Stem, a block with an identity skip, a block with a strided projection, a mean over places, head; images (2, 4, 5)."""

    def __init__(self, activation: str = "relu", seed: int = 4, spread: float = 1.0) -> None:
        super().__init__()
        act = nets.ACTIVATIONS[activation]
        self.word = activation
        self.stem, self.act0 = nn.Conv2d(2, 3, 3, padding=1), act()
        self.one, self.act1, self.two, self.act2 = (
            nn.Conv2d(3, 3, 3, padding=1, bias=False), act(), nn.Conv2d(3, 3, 3, padding=1), act(),
        )  # fmt: skip
        self.three, self.act3, self.four = nn.Conv2d(3, 4, 3, 2, 1), act(), nn.Conv2d(4, 4, 3, padding=1)
        self.short, self.act4 = nn.Conv2d(3, 4, 1, 2, bias=False), act()
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(4, nets.CLASSES)
        double(self, seed, spread)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act0(self.stem(x))
        h = self.act2(self.two(self.act1(self.one(h))) + h)
        h = self.act4(self.four(self.act3(self.three(h))) + self.short(h))
        out: Tensor = self.head(torch.flatten(self.pool(h), 1))
        return out

    def network(self) -> list[Node]:
        """The twin's: states 1 stem, 2 and 4 inside the blocks, 3 and 5 the blocks' outputs, 6 the logits."""
        big, small = (4, 5), (2, 3)

        def through(name: str, place: tuple[int, int]) -> Part:
            layer = self.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            return weights(name, layer, (layer.in_channels, *place))

        head = [twins_states.AveragePool((4, *small), 2, 2), weights("head", self.head, (4,))]
        return [
            Node([Branch(0, [through("stem", big)])], self.word),
            Node([Branch(1, [through("one", big)])], self.word),
            Node([Branch(2, [through("two", big)]), Branch(1, [])], self.word),
            Node([Branch(3, [through("three", big)])], self.word),
            Node([Branch(4, [through("four", small)]), Branch(3, [through("short", big)])], self.word),
            Node([Branch(5, head)]),
        ]


RESIDUAL_IMAGE = (2, 4, 5)


def weights(name: str, layer: nn.Module, shape: tuple[int, ...], feedback: Tensor | None = None) -> Part:
    """A layer of weights as the twin's part; ``feedback``, shaped like the weight, takes its place on the way down."""

    def made(weight: Tensor, bias: Tensor | None) -> twins_lfp.Weights:
        if isinstance(layer, nn.Linear):
            return twins_lfp.dense(name, numbers(weight), numbers(bias))
        assert isinstance(layer, nn.Conv2d)
        return twins_lfp.conv(
            name, numbers(weight), numbers(bias), image(shape), layer.stride[0], int(layer.padding[0])
        )

    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return twins_states.Weights(made(layer.weight, layer.bias), None if feedback is None else made(feedback, None))


def network_of(
    layers: nn.Sequential,
    shape: tuple[int, ...],
    feedback: dict[str, Tensor] | None = None,
    *,
    pool_first: bool = False,
) -> Network:
    """The twin's network of a sequence of layers on inputs of this shape (without the batch): states at its activations.

    ``pool_first``: max-pools and the activations right before them change places.
    """
    chains: list[list[Part]] = [[]]
    words = []
    order = list(layers.named_children())
    for at in range(1, len(order)):
        if (
            pool_first
            and isinstance(order[at][1], nn.MaxPool2d)
            and type(order[at - 1][1]) in nets.ACTIVATIONS.values()
        ):
            order[at - 1 : at + 1] = order[at - 1 : at + 1][::-1]
    for name, layer in order:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            chains[-1].append(weights(name, layer, shape, (feedback or {}).get(name)))
        elif isinstance(layer, nn.MaxPool2d):
            chains[-1].append(twins_states.MaxPool(image(shape), *extent(layer)))
        elif isinstance(layer, nn.AvgPool2d):
            chains[-1].append(twins_states.AveragePool(image(shape), *extent(layer)))
        elif isinstance(layer, nn.BatchNorm2d):
            chains[-1].append(scale(name, layer, shape))
        elif not isinstance(layer, nn.Flatten):
            words.append(next(word for word, cls in nets.ACTIVATIONS.items() if isinstance(layer, cls)))
            chains.append([])
        with torch.no_grad():
            shape = tuple(layer.eval()(torch.zeros((2, *shape), dtype=torch.float64)).shape[1:])
            layer.train()
    assert len(set(words)) == 1
    return twins_states.chain(chains, words[0])


def scale(name: str, norm: nn.BatchNorm2d, shape: tuple[int, ...]) -> Part:
    """BatchNorm with its running statistics."""
    assert norm.running_mean is not None and norm.running_var is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    return twins_states.Scale(
        name,
        numbers(norm.weight),
        numbers(norm.bias),
        numbers(norm.running_mean),
        numbers(deviation),
        shape[1] * shape[2],
    )


def backprop(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> dict[str, Any]:
    """Autograd's gradient by name of the loss: half the sum of squares or the cross-entropy, mean over samples."""
    z = model(x)
    if loss == "half_sse":
        value = 0.5 * (z - nn.functional.one_hot(y, z.shape[1])).square().sum() / len(x)
    else:
        value = nn.functional.cross_entropy(z, y)
    names, ps = zip(*model.named_parameters(), strict=True)
    return {name: grad.numpy() for name, grad in zip(names, torch.autograd.grad(value, ps), strict=True)}
