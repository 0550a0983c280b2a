"""Forward passes that branch on sizes: traced for samples of one size from an example, against autograd."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError


class Windows(nn.Module):
    """Attention-like mixing in windows, with the checks, paddings and loops that such networks have."""

    def __init__(self, window: int = 2) -> None:
        super().__init__()
        self.window = window
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.mix, self.head = nn.Linear(window**2, window**2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        B, C, H, W = x.shape
        w = self.window
        if H % w or W % w:
            x = F.pad(x, (0, -W % w, 0, -H % w))
        H, W = x.shape[2:]
        assert H % w == 0 and W % w == 0, "no whole windows"
        x = x.view(B, C, H // w, w, W // w, w).permute(0, 2, 4, 1, 3, 5).reshape(-1, C, w * w)
        x = x + torch.tanh(self.mix(x))
        tokens = x.reshape(B, -1, C)
        side = int(math.sqrt(tokens.shape[1]))
        if side * side == tokens.size(1):
            tokens = tokens * 2
        rows = [tokens[:, at] for at in range(min(tokens.shape[1], 3))]
        return self.head(sum(rows) / len(rows) + tokens.mean(1))


def _against_autograd(net: nn.Module, example: Tensor, *batches: Tensor) -> credit.Rule:
    twin = copy.deepcopy(net)
    rule = credit.rule("bp", net, example=example)
    for x in batches:
        y = torch.arange(len(x)) % 3
        twin.zero_grad()
        logits = rule.step(x, y).logits
        wanted = twin(x)
        torch.testing.assert_close(logits, wanted.detach(), atol=1e-9, rtol=0)
        F.cross_entropy(wanted, y).backward()
        for (name, mine), p in zip(net.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, p.grad, atol=1e-9, rtol=0, msg=name)
    for moved, other in zip(net.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(moved, other, atol=1e-9, rtol=0)
    return rule


def _images(count: int, side: int) -> Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(count), dtype=torch.float64)


@pytest.mark.parametrize("side", [4, 5, 6])
def test_backprop_equals_autograd_for_any_number_of_samples_of_one_size(side):
    torch.manual_seed(0)
    rule = _against_autograd(Windows().double(), _images(2, side), _images(5, side), _images(8, side))
    assert rule.plan.sized
    with pytest.raises(UserError, match=rf"plan, made from an example, is for samples of \(1, {side}, {side}\)"):
        rule.step(_images(4, side + 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(UserError, match="give inputs of one size"):
        rule.functional(_images(4, side + 2), torch.zeros(4, dtype=torch.int64))


def test_an_example_is_asked_for_where_sizes_decide():
    with pytest.raises(UserError, match=r"Windows cannot be traced, at .*if H % w(.|\n)*give one batch, example=x"):
        credit.rule("bp", Windows())


def test_sizes_that_decide_nothing_are_read_at_each_step():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).double()
    rule = _against_autograd(net, _images(2, 6), _images(4, 6), _images(4, 9))
    assert not rule.plan.sized


class _Grouped(nn.Module):
    def __init__(self, decide: str) -> None:
        super().__init__()
        self.fc, self.decide = nn.Linear(4, 3), decide

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.fc(x)
        if self.decide == "samples" and x.shape[0] % 2:
            return h * 2
        if self.decide == "values" and h.sum() > 0:
            return h * 2
        if self.decide == "groups":
            return h * min(x.shape[0] // 4, 8)
        return h


@pytest.mark.parametrize(
    "decide, words",
    [("samples", "number of samples"), ("groups", "number of samples"), ("values", "depends on the values of tensors")],
)
def test_what_depends_on_the_batch_is_refused(decide, words):
    with pytest.raises(UserError, match=words):
        credit.rule("bp", _Grouped(decide), example=torch.randn(2, 4))


def test_the_example_and_the_model_are_left_as_they_are():
    torch.manual_seed(0)
    net = Windows().double()
    before, drawn = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    example = _images(2, 5)
    credit.rule("bp", net, example=example)
    assert torch.equal(drawn, torch.get_rng_state())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options, side",
    [
        ("mobilevit_xxs", {}, 64),
        ("mobilevitv2_050", {}, 64),
        ("tiny_vit_5m_224", {}, 224),
        ("crossvit_tiny_240", {}, 240),
        ("twins_svt_small", {"img_size": 64}, 64),
        ("nest_tiny", {"img_size": 128}, 128),
    ],
)
def test_timms_networks_that_branch_on_sizes(name, options, side):
    import timm

    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=3, drop_path_rate=0.0, **options).double()
    x = torch.randn(3, 3, side, side, dtype=torch.float64)
    assert _against_autograd(net, x[:2], x).plan.sized


@pytest.mark.slow
def test_timms_same_padding_is_read_at_each_step():
    import timm

    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_b0", num_classes=3, drop_path_rate=0.0).double()
    x = torch.randn(2, 3, 33, 47, dtype=torch.float64)
    assert not _against_autograd(net, x, x).plan.sized
