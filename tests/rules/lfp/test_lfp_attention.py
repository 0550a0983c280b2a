"""Layer-wise feedback propagation through attention, norms and embeddings, against AttnLRP's equations written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.models import build

EPSILON = 1e-6


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Small(nn.Module):
    """Embedding and position, layer norm, one head of causal attention added to its input, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(7, 4), nn.Parameter(torch.empty(5, 4))
        self.norm, self.query, self.key, self.value = nn.LayerNorm(4), *(nn.Linear(4, 4, bias=False) for _ in range(3))
        self.head = nn.Linear(4, 7)
        for p in self.parameters():
            nn.init.normal_(p, generator=source(p.numel()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.position
        n = self.norm(h)
        mixed = F.scaled_dot_product_attention(self.query(n), self.key(n), self.value(n), is_causal=True)
        return self.head(h + mixed)


def over(z: Tensor) -> Tensor:
    return z + torch.where(z < 0, -EPSILON, EPSILON)


def layer(weight: Tensor, a: Tensor, z: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return the update of a weight (ascent) and the feedback of its input under LFP-epsilon (Eqs. 2 to 5)."""
    q = r / over(z)
    return weight.abs() * torch.einsum("bti,btj->ij", q, a), a * (q @ weight)


def written_out(model: Small, x: Tensor, r: Tensor) -> dict[str, Tensor]:
    """Return the updates (ascent) of feedback r at the logits, op by op from the top."""
    found = {}
    token = model.token.weight[x]
    h = token + model.position
    mean, variance = h.mean(2, keepdim=True), h.var(2, keepdim=True, correction=0)
    unit = (h - mean) / (variance + model.norm.eps).sqrt()
    n = unit * model.norm.weight + model.norm.bias
    query, key, value = n @ model.query.weight.T, n @ model.key.weight.T, n @ model.value.weight.T
    product = query @ key.mT
    scores = (product / math.sqrt(4)).masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    s = scores.softmax(2)
    mixed = s @ value
    out = h + mixed
    logits = out @ model.head.weight.T + model.head.bias
    found["head.bias"] = model.head.bias.abs() * (r / over(logits)).sum((0, 1))
    found["head.weight"], r = layer(model.head.weight, out, logits, r)
    to_h, to_mixed = h * r / over(out), mixed * r / over(out)
    half = to_mixed / over(2 * mixed)  # the uniform rule
    to_s, to_value = s * (half @ value.mT), value * (s.mT @ half)
    below = torch.where(s > 0, scores * (to_s - s * to_s.sum(2, keepdim=True)), 0.0)  # the Taylor rule
    scaled = product / math.sqrt(4)
    below = below * (scaled / over(scores)).nan_to_num(0.0) * scaled / over(scaled)  # the mask, and the scale
    half = below / over(2 * product)
    to_query, to_key = query * (half @ key), key * (half.mT @ query)
    to_n = torch.zeros_like(n)
    for name, z, feedback in (("query", query, to_query), ("key", key, to_key), ("value", value, to_value)):
        found[f"{name}.weight"], sent = layer(model.get_parameter(f"{name}.weight"), n, z, feedback)
        to_n = to_n + sent
    q = to_n / over(n)
    found["norm.weight"] = model.norm.weight.abs() * (q * unit).sum((0, 1))
    found["norm.bias"] = model.norm.bias.abs() * q.sum((0, 1))
    to_h = to_h + to_n  # the identity rule
    to_token, to_position = token * to_h / over(h), model.position * to_h / over(h)
    found["position"] = model.position.abs() * (to_position.sum(0) / over(model.position))
    rows = torch.zeros_like(model.token.weight).index_add(0, x.flatten(), (to_token / over(token)).flatten(0, 1))
    found["token.weight"] = model.token.weight.abs() * rows
    return found


def test_attention_norms_and_embeddings_follow_the_equations():
    model = Small().double()
    x, y = (torch.randint(7, (3, 5), generator=source(at)) for at in (0, 1))
    rule = credit.rule("lfp_epsilon", model, task="tokens", precision="float64", epsilon=EPSILON, feedback="softmax")
    done = rule.updates(x, y)
    with torch.no_grad():
        logits = model(x)
        r = logits * (F.one_hot(y, 7) - logits.softmax(2)) / y.numel()
        expected = written_out(model, x, r)
    assert set(expected) == set(done.updates)
    for name, value in expected.items():
        torch.testing.assert_close(done.updates[name], -value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["lfp_epsilon", "lfp_zpm", "lfp_alphabeta"])
def test_a_gpt_learns_by_lfp(name):
    model = build({"kind": "gpt", "width": 16, "heads": 2, "layers": 1, "activation": "relu"}, (8,), 6, seed=0)
    x = torch.arange(64).view(8, 8) % 6  # the next token follows from this one
    y = (x + 1) % 6
    rule = credit.rule(name, model, task="tokens", feedback="softmax")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = float(rule.step(x, y).loss)
    for _ in range(120):
        rule.step(x, y)
        optimizer.step()
    assert float(rule.step(x, y).loss) < 0.7 * first


def test_a_logarithm_of_softmax_is_refused():
    model = nn.Sequential(nn.Linear(4, 5), nn.LogSoftmax(1), nn.Linear(5, 3))
    with pytest.raises(UserError, match="cannot send feedback through softmax '1'.*does not share its output"):
        credit.rule("lfp_epsilon", model)


class Between(nn.Module):
    """Two linear layers with a function of parameters or constants between them."""

    scale: Tensor
    kernel: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Linear(4, 6), nn.Linear(6, 3)
        scale, kernel = torch.randn(6, generator=source(1)), torch.rand(1, 1, 3, generator=source(2))
        if kind == "parameter":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)
        self.register_buffer("kernel", kernel)
        if kind == "layer":
            self.layer = nn.Linear(6, 6, bias=False)
            self.layer.weight.data = scale.diag()
        if kind == "conv":
            self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False).requires_grad_(False)
            self.conv.weight.data = kernel

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        between = {
            "parameter": lambda: h * self.scale,
            "constant": lambda: h * self.scale,
            "layer": lambda: self.layer(h),
            "blur": lambda: F.conv1d(h.unsqueeze(1), self.kernel, padding=1).squeeze(1),
            "conv": lambda: self.conv(h.unsqueeze(1)).squeeze(1),
        }
        out: Tensor = self.last(between[self.kind]())
        return out


@pytest.mark.parametrize(("kind", "as_layer"), [("parameter", "layer"), ("constant", "layer"), ("blur", "conv")])
def test_a_product_with_weights_and_a_constant_kernel_are_layers(kind, as_layer):
    found = []
    for one in (kind, as_layer):
        torch.manual_seed(0)
        model = Between(one).double()
        x = torch.randn(5, 4, generator=source(3), dtype=torch.float64)
        found.append(credit.rule("lfp_epsilon", model, precision="float64").updates(x, torch.arange(5) % 3).updates)
    for name in ("first.weight", "first.bias", "last.weight"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-9, atol=1e-12)
    if kind == "parameter":
        torch.testing.assert_close(found[0]["scale"], found[1]["layer.weight"].diagonal(), rtol=1e-4, atol=1e-8)
