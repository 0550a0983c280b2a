"""Modules that the user keeps in eval mode inside a model in train mode stay as they are."""

import torch
import torch.nn.functional as F
from torch import nn

import credit


def test_frozen_norms_and_dropouts_equal_autograd_and_do_not_move() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 4),
    ).double()  # fmt: skip
    x, y = torch.randn(7, 3, 8, 8).double(), torch.arange(7) % 4
    model(x)  # moves the running statistics off their start
    model[1].eval()
    model[3].eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    F.cross_entropy(model(x), y).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    moved = {name: value.clone() for name, value in model.named_buffers()}
    for name, value in model.named_buffers():
        value.copy_(before[name])
    credit.rule("bp", model, precision="float64").step(x, y)
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-9, atol=1e-12, msg=name)
    for name, value in model.named_buffers():
        assert torch.equal(value, moved[name]) or name.startswith("5."), name
        torch.testing.assert_close(value, moved[name])
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers() if name.startswith("1."))
