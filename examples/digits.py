"""The handwritten digits of scikit-learn as tensors, for the examples."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset


def sets() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,437 training and 360 test examples: float32 (64,), about -1 to 1, and labels int64."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images).float() / 8 - 1, torch.from_numpy(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[test], y[test])


def network(seed: int = 0) -> nn.Module:
    """Return a perceptron with one hidden layer, its weights drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Return a network's accuracy, in [0, 1]."""
    x, y = data.tensors
    with torch.inference_mode():
        right: Tensor = model(x).argmax(1) == y
    return right.double().mean().item()
