"""Small networks of odd widths in float64, batches for them, and the way from torch to the twins."""

import copy

import torch
from torch import Tensor, nn

from credit.models.activations import Sign, Step
from tests.support.twins import Array

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hardtanh": nn.Hardtanh,
    "step": Step,
    "sign": Sign,
}
CLASSES = 5


def _randomize(model: nn.Module, seed: int, spread: float = 1.0) -> None:
    """Parameters from a generator of their own, so that no scale, shift or bias stays at 0 or 1."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            size = spread / p[0].numel() ** 0.5 if p.dim() > 1 else 0.5
            p.copy_(torch.randn(p.shape, generator=stream, dtype=p.dtype) * size)


def mlp(activation: str, widths: tuple[int, ...] = (7, 11, 9, 5), seed: int = 1, spread: float = 1.5) -> nn.Sequential:
    """Linear layers of these widths with the activation between, named 0, 2, 4, ..."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    model = nn.Sequential(*layers[:-1]).double()
    _randomize(model, seed, spread)
    return model


class Residual(nn.Module):
    """conv - norm - act - [conv - norm + shortcut] - act - max-pool - conv - act - linear, for images (2, 5, 7)."""

    def __init__(self, activation: str, norm: bool, seed: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.act1 = ACTIVATIONS[activation]()
        self.block = nn.Conv2d(3, 3, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.act2 = ACTIVATIONS[activation]()
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Conv2d(3, 4, 2)
        self.act3 = ACTIVATIONS[activation]()
        self.head = nn.Linear(8, CLASSES)
        self.double()
        _randomize(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act1(self.norm1(self.stem(x)))
        h = self.act2(self.norm2(self.block(h)) + h)
        h = self.act3(self.last(self.pool(h)))
        return self.head(torch.flatten(h, 1))


def batch(model: nn.Module, shape: tuple[int, ...], n: int = 6) -> tuple[Tensor, Tensor]:
    """Inputs (n, *shape) and labels: the model's own answer for half of the samples, the next class for the others."""
    x = torch.randn((n, *shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        answers = copy.deepcopy(model)(x).argmax(1)
    return x, (answers + torch.arange(n) % 2) % CLASSES


def margin_between(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """A margin that about half of the samples with the right answer reach, so that some signals are zero."""
    with torch.no_grad():
        z = copy.deepcopy(model)(x)
    others = z.scatter(1, y.unsqueeze(1), -torch.inf).amax(1)
    gaps = z.gather(1, y.unsqueeze(1)).squeeze(1) - others
    return float(gaps[gaps > 0].median()) * 0.999


def gradients(model: nn.Module) -> dict[str, Array]:
    found = {}
    for name, p in model.named_parameters():
        assert p.grad is not None, f"{name} has no .grad"
        found[name] = p.grad.numpy().copy()
    return found


def parameters(model: nn.Module) -> dict[str, Array]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
