"""Weights computed from other tensors: parametrizations, weight norms and pruning masks, against autograd."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import credit
from credit.core.errors import UserError
from credit.rules.replicas import Mapped, why_not


class LowRank(nn.Module):
    def __init__(self, out: int, fan: int, rank: int = 2) -> None:
        super().__init__()
        self.a = nn.Parameter(0.3 * torch.randn(rank, fan))
        self.b = nn.Parameter(0.3 * torch.randn(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


class Rounded(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight + (torch.round(8 * weight) / 8 - weight).detach()


def _low_rank(layer: nn.Linear) -> None:
    layer.weight.requires_grad_(False)
    parametrize.register_parametrization(layer, "weight", LowRank(*layer.weight.shape))


def _old(name: str, layer: nn.Linear) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        getattr(nn.utils, name)(layer)


def _pruned_twice(layer: nn.Linear) -> None:
    prune.random_unstructured(layer, "weight", 0.3)
    prune.l1_unstructured(layer, "weight", 0.2)
    prune.random_unstructured(layer, "bias", 0.5)


def _layer(net: nn.Sequential, at: int) -> nn.Linear:
    layer = net[at]
    assert isinstance(layer, nn.Linear)
    return layer


COMPUTED: dict[str, Callable[[nn.Linear], object]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "cayley": lambda layer: parametrizations.orthogonal(layer, orthogonal_map="cayley"),
    "low_rank": _low_rank,
    "rounded": lambda layer: parametrize.register_parametrization(layer, "weight", Rounded()),
    "pruned": _pruned_twice,
    "weight_norm_hook": lambda layer: _old("weight_norm", layer),
    "spectral_norm_hook": lambda layer: _old("spectral_norm", layer),
}


def _net(kind: str | None) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    if kind is not None:
        for at in (0, 2):
            COMPUTED[kind](_layer(net, at))
    return net.double()


def _batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    by = torch.Generator().manual_seed(seed)
    return torch.randn(8, 5, generator=by, dtype=torch.float64), torch.randint(0, 3, (8,), generator=by)


@pytest.mark.parametrize("kind", COMPUTED)
def test_backprop_equals_autograd_and_moves_the_same_buffers(kind):
    ours, theirs = _net(kind), _net(kind)
    rule = credit.rule("bp", ours)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (ours, theirs)]
    for seed in range(3):
        x, y = _batch(seed)
        done = rule.step(x, y)
        optimizers[1].zero_grad()
        logits = theirs(x)
        F.cross_entropy(logits, y).backward()
        torch.testing.assert_close(done.logits, logits.detach(), atol=1e-9, rtol=0)
        for (name, mine), (_, p) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert (mine.grad is None) == (p.grad is None), name
            if p.grad is not None:
                assert float(p.grad.abs().max()) > 0
                torch.testing.assert_close(mine.grad, p.grad, atol=1e-9, rtol=0, msg=name)
        for (name, mine), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            torch.testing.assert_close(mine, b, atol=1e-9, rtol=0, msg=name)
        for optimizer in optimizers:
            optimizer.step()
        ours.eval()(x), ours.train()  # hooks leave another tensor behind


RULES: list[tuple[str, dict[str, object]]] = [
    ("fa", {}),
    ("dfa", {}),
    ("lisp_margin", {"clip": None}),
    ("lfp_epsilon", {}),
    ("dual", {}),
    ("eqprop", {}),
    ("rec_lra", {}),
    ("dtp", {}),
]


@pytest.mark.parametrize("rule, options", RULES, ids=[name for name, _ in RULES])
@pytest.mark.parametrize("kind", ["weight_norm", "low_rank", "weight_norm_hook"])
def test_a_rules_update_of_a_plain_layer_is_sent_on_by_the_parametrization(kind, rule, options):
    made, flat, autograd = _net(kind), _net(None), _net(kind)
    x, y = _batch()
    autograd(x)  # a hook computes its weight in the forward pass
    weights: dict[int, Tensor] = {at: _layer(autograd, at).weight for at in (0, 2)}
    with torch.no_grad():
        for at, weight in weights.items():
            _layer(flat, at).weight.copy_(weight)
    ours, plain = (credit.rule(rule, net, seed=3, example=x, **options) for net in (made, flat))
    got, wanted = ours.updates(x, y).updates, plain.updates(x, y).updates
    sent = {f"{at}.weight": wanted.pop(f"{at}.weight") for at in weights}
    own = {name: p for name, p in autograd.named_parameters() if p.requires_grad and name not in wanted}
    found = torch.autograd.grad(list(weights.values()), list(own.values()), list(sent.values()))
    wanted |= dict(zip(own, found, strict=True))
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, atol=1e-9, rtol=1e-9, msg=name)
    assert any(float(wanted[name].abs().max()) > 0 for name in own)


@pytest.mark.parametrize("kind", ["spectral_norm", "pruned"])
def test_a_compiled_step_is_the_same_step(kind):
    rules = [credit.rule("bp", _net(kind), compile=compiled) for compiled in ("aot_eager", False)]
    for rule in rules:
        rule.step(*_batch()), rule.step(*_batch(1))
    for one, other in zip(*(rule.model.state_dict().values() for rule in rules), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    for one, other in zip(*(rule.model.parameters() for rule in rules), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-12, rtol=0)


def test_replicas_in_one_step_are_the_same_steps():
    nets = [_net("low_rank"), _net("low_rank")]
    with torch.no_grad():
        for p in nets[1].parameters():
            p.mul_(1.1)
    alone = credit.rule("bp", copy.deepcopy(nets[1]))
    together = Mapped([credit.rule("bp", net) for net in nets])
    x, y = _batch()
    together.step(torch.stack([x, x]), torch.stack([y, y])), alone.step(x, y)
    together.show_updates(1)
    for mine, other in zip(nets[1].parameters(), alone.model.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-12, rtol=0)
    assert "cannot be mapped" in str(why_not(credit.rule("bp", _net("spectral_norm")), x, y))


class _Scaled(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, weight: Tensor) -> Tensor:
        return self.by * weight


def test_replicas_of_different_parametrizations_are_refused():
    nets = [_net(None), _net(None)]
    for by, net in enumerate(nets, 1):
        parametrize.register_parametrization(net[0], "weight", _Scaled(float(by)))
    with pytest.raises(UserError, match="parametrizations"):
        Mapped([credit.rule("bp", net) for net in nets])


class _Everywhere(nn.Module):
    """Computed weights in a leaf, in forward() itself, twice, in attention and in the network's own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = parametrizations.weight_norm(nn.Linear(5, 4))
        self.own = nn.Parameter(torch.randn(4, 4))
        self.mix = nn.MultiheadAttention(4, 2, batch_first=True)
        parametrizations.weight_norm(self.mix, "in_proj_weight")
        parametrize.register_parametrization(self, "own", Rounded())

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(F.linear(x, self.fc.weight, self.fc.bias)) @ self.own + self.fc(x)
        h = h.unsqueeze(1).expand(-1, 3, -1) * torch.arange(1.0, 4.0, dtype=x.dtype).view(1, 3, 1)
        mixed: Tensor = self.mix(h, h, h)[0].mean(1)
        return mixed @ self.fc.weight


def test_a_computed_weight_is_one_wherever_forward_reads_it():
    torch.manual_seed(0)
    ours = _Everywhere().double()
    theirs = copy.deepcopy(ours)
    x, y = _batch()
    rule = credit.rule("bp", ours)
    rule.step(x, y)
    F.cross_entropy(theirs(x), y).backward()
    for (name, mine), p in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, p.grad, atol=1e-9, rtol=0, msg=name)
    assert {"fc.weight", "own", "mix.in_proj_weight"} == set(rule.plan.weights)


def _grads(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(p.detach(), p.grad) for p in module.parameters() if p.grad is not None]


def test_limits_act_on_the_parameters_that_a_weight_is_computed_from():
    net = _net("weight_norm")
    x, y = _batch()
    credit.rule("bp", net, clip=1e-3).step(x, y)
    for p, grad in _grads(net[2]):
        torch.testing.assert_close(grad.norm(), 1e-3 * p.norm(), atol=1e-12, rtol=1e-9)
    credit.rule("bp", net, clip_unit=1e-3).step(x, y)
    rows = [p.detach().flatten(1) if p.dim() > 1 else p.detach()[:, None] for p in net[2].parameters()]
    units = torch.cat(rows, 1).norm(dim=1)  # of a unit: its rows of g and v and its bias
    for _, grad in _grads(net[2]):
        grown = grad.flatten(1).norm(dim=1) if grad.dim() > 1 else grad.abs()
        assert bool((grown <= 1e-3 * units * (1 + 1e-9)).all())


def test_what_is_registered_or_removed_later_is_seen_at_the_next_step():
    net = _net("weight_norm")
    rule, (x, y) = credit.rule("bp", net), _batch()
    rule.step(x, y)
    parametrize.remove_parametrizations(net[0], "weight")
    prune.random_unstructured(net[4], "weight", 0.5)
    rule.step(x, y)
    grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert "0.weight" in grads
    assert float(grads["4.weight_orig"].abs()[net.get_buffer("4.weight_mask") == 0].max()) == 0
    assert not rule._traced.changed()


class _Noisy(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.randn_like(weight)


class _Ste(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight):
        return weight.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad


class _Binary(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return _Ste.apply(weight)


@pytest.mark.parametrize("made, words", [(_Noisy, "random numbers"), (_Binary, "needs setup_context")])
def test_computations_that_cannot_be_repeated_or_differentiated_are_refused(made, words):
    net = _net(None)
    parametrize.register_parametrization(net[0], "weight", made())
    with pytest.raises(UserError, match=words):
        credit.rule("bp", net)
    assert parametrize.is_parametrized(net[0], "weight")


def test_learned_feedback_and_local_modules_refuse_computed_weights():
    with pytest.raises(UserError, match="computed from other parameters and has no update of its own"):
        credit.rule("fa", _net("weight_norm"), feedback_weights="kolen_pollack")
    twice = nn.Sequential(nn.Linear(5, 4), parametrizations.weight_norm(nn.Bilinear(4, 4, 3))).double()
    with pytest.raises(UserError, match="local autograd takes modules with parameters of their own"):
        credit.rule("bp", _Fed(twice), local_autograd=True)


class _Fed(nn.Module):
    def __init__(self, parts: nn.Sequential) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        h = self.parts[0](x)
        out: Tensor = self.parts[1](h, h)
        return out
