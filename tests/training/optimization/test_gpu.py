"""Steps of optimizers on fake CUDA tensors: which ones wait for the device."""

import pytest
import timm.optim
import torch
from torch import nn

from credit.core.errors import UserError
from credit.training.optimization import build_optimizer, set_learning_rate
from credit.training.options import NamedOptions
from tests.support.fake_gpu import FakeGpu, WaitedError

READING = {"ASGD", "Adafactor", "adamp", "cadamp", "csgdp", "novograd", "novogradc", "novogradw", "sgdp"}
"""Names whose classes read values of tensors at every step, so that a GPU is waited for."""

REFUSED = {"LBFGS", "Muon", "SparseAdam", "adahessian", "kron", "kronc", "kronw"}
"""Names that are refused for a rule's updates, or for this network."""

PACKAGES = ("bnb", "fused")
"""Beginnings of the names whose classes are in packages of their own, which need CUDA to be imported."""

NAMES = [
    ("torch", cls.__name__)
    for cls in vars(torch.optim).values()
    if isinstance(cls, type) and cls is not torch.optim.Optimizer
]
NAMES += [("timm", str(name)) for name in timm.optim.list_optimizers() if not str(name).startswith(PACKAGES)]
FAST = ("SGD", "AdamW", "ASGD", "lamb", "lion")


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*one, marks=[] if one[1] in FAST else pytest.mark.slow, id="-".join(one)) for one in NAMES],
)
def test_only_these_optimizers_wait_for_the_device(kind: str, name: str) -> None:
    gpu = FakeGpu()
    model = gpu.moved(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    options = NamedOptions(kind, lr=0.01, name=name, options={})
    if name in REFUSED:
        with pytest.raises(UserError, match=f"optimizer.name={name}: it"):
            build_optimizer(options, model.parameters(), [])
        return
    with gpu.computing(waits=True):
        optimizer = build_optimizer(options, model.parameters(), [])
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()  # makes its state
    with gpu.computing() as waiting:
        set_learning_rate(optimizer, 0.02)
        if name in READING:
            with pytest.raises(WaitedError):
                optimizer.step()
        else:
            optimizer.step()
    assert bool(waiting.places) == (name in READING)
