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

NAMES = [("torch", name) for name in torch.optim.__all__ if name not in ("Optimizer", "lr_scheduler", "swa_utils")]
NAMES += [("timm", str(name)) for name in timm.optim.list_optimizers()]
FAST = ("SGD", "AdamW", "ASGD", "lamb", "lion")


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*one, marks=[] if one[1] in FAST else pytest.mark.slow, id="-".join(one)) for one in NAMES],
)
def test_only_these_optimizers_wait_for_the_device(kind: str, name: str) -> None:
    gpu = FakeGpu()
    model = gpu.moved(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    with gpu.computing(waits=True):
        try:
            optimizer = build_optimizer(NamedOptions(kind, lr=0.01, name=name, options={}), model.parameters(), [])
        except UserError as refusal:
            pytest.skip(str(refusal))
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
