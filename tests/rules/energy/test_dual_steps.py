"""Steps of dual and equilibrium propagation with options the battery does not try: seeds, state, order of samples, extremes."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.rules import Mapped
from tests.rules.energy.test_dual_twins import made
from tests.rules.lfp.test_lfp_twins import close
from tests.support import dual_nets, nets
from tests.support.covering import covering

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "dp": ("dp", {"passes": 3, "beta": 0.1}),
    "dp fw prox": ("dp", {"schedule": "fw", "passes": 6, "loss": "half_sse", "nudge": "prox", "alpha": 0.6}),
    "dp random": ("dp", {"schedule": "random", "passes": 6, "beta": 0.1}),
    "dp input": ("dp", {"passes": 2, "input_robustness": True, "alpha": 0.4}),
    "dp random weights": ("dp", {"feedback_weights": "fixed_random", "passes": 2}),
    "dp pools last": ("dp", {"pool_first": False, "passes": 2, "alpha": 0.4}),
    "adjoint": ("dp_adjoint", {"alpha": 0.0, "beta": 0.5, "passes": 3}),
    "adjoint frozen": ("dp_adjoint", {"alpha": 1.0, "nudge": "frozen", "schedule": "fw", "passes": 6}),
    "damped": ("dp_damped", {"alpha": 0.0, "beta": 0.1, "passes": 4}),
    "lpom": ("lpom", {"beta": 0.1, "passes": 4, "loss": "half_sse"}),
    "eqprop": ("eqprop", {"phases": 3, "loss": "ce", "free_steps": 5, "nudged_steps": 4}),
    "chl": ("chl", {"free_steps": 5, "nudged_steps": 5, "gamma": 0.3}),
}
COMPILED = ("dp random weights", "eqprop")
MAPPED = ("dp input", "dp random weights", "adjoint frozen")
"""What is compiled and mapped in `make test`: what the battery does not map, and a rule of each kind that it compiles."""


def others_slow(fast: tuple[str, ...]) -> list[Any]:
    """The rules, without random orders, which are refused, and without those that the battery compiles and maps too."""
    words = [word for word in RULES if word not in ("dp", "dp random", "adjoint")]
    return [word if word in fast else pytest.param(word, marks=pytest.mark.slow) for word in words]


FEW = {"passes": 2, "free_steps": 2, "nudged_steps": 2}
"""Enough for each kind of visit; all passes are unrolled where a step is compiled or recorded."""


def take(word: str, model: nn.Module, **settings: Any) -> Any:
    name, told = RULES[word]
    return credit.rule(name, model, **told | settings)


def few(word: str) -> dict[str, int]:
    """Settings over a rule's own: few passes."""
    told = RULES[word][1]
    return {key: 4 if told.get("schedule") == "fw" else count for key, count in FEW.items() if key in told}


def bend(word: str) -> str:
    """An activation that bends everywhere, where a rule takes one: damped iterations want a projection."""
    return "relu" if word in ("damped", "lpom") else "tanh"


def usable(word: str, net: str) -> bool:
    """Contrastive Hebbian learning takes no skips."""
    return not (word == "chl" and net == "residual")


PLACES = covering(1, tuple(RULES), ("mlp", "later", "residual"), where=usable, slow=2)


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("word", "net"), PLACES)
def test_equal_seeds_take_equal_steps_and_a_saved_rule_goes_on(word: str, net: str) -> None:
    model, _, x, y = made(net, bend(word), spread=0.5)
    one, other, third = (copy.deepcopy(model) for _ in range(3))
    a, b = (take(word, each, seed=3, precision="float64") for each in (one, other))
    for _ in range(3):
        a.step(x, y), b.step(x, y)
        assert all(bool(torch.equal(g, grads(other)[key])) for key, g in grads(one).items())
    stream = io.BytesIO()
    torch.save(a.state_dict(), stream)
    late = take(word, third, seed=3, precision="float64")
    late.load_state_dict(torch.load(io.BytesIO(stream.getvalue()), weights_only=True))
    assert late.position == 3
    a.step(x, y), late.step(x, y)
    assert all(bool(torch.equal(g, grads(third)[key])) for key, g in grads(one).items())


def test_random_orders_come_of_the_seed_and_the_step() -> None:
    model, _, x, y = made("mlp", spread=1.0)

    def updates(seed: int, position: int) -> Tensor:
        rule = credit.rule(
            "dp", model, schedule="random", passes=4, alpha=0.3, beta=0.5, precision="float64", seed=seed
        )
        rule.position = position
        return rule.updates(x, y).updates["2.weight"]

    assert torch.equal(updates(1, 5), updates(1, 5))
    drawn = [updates(seed, position) for seed in range(4) for position in range(4)]
    assert len({float(value.sum()) for value in drawn}) > 8


@pytest.mark.parametrize(("word", "net"), PLACES)
def test_no_sample_is_treated_by_its_place(word: str, net: str) -> None:
    """Not of damped steps: their power iterations may start from vectors of each sample's own (see the battery)."""
    if word in ("damped", "lpom"):
        return
    model, _, x, y = made(net, bend(word), spread=0.5)
    turn = torch.tensor([2, 0, 1])
    rule = take(word, model, precision="float64")
    if hasattr(rule, "keep_states"):
        rule.keep_states = True
    plain, turned = rule.updates(x, y), rule.updates(x[turn], y[turn])
    for key, update in plain.updates.items():
        close(turned.updates[key], update, key)
    for pair, other in zip(plain.states or [], turned.states or [], strict=True):
        for s, t in zip(pair, other, strict=True):
            close(t, s[turn], "states")


@pytest.mark.parametrize(("word", "net"), PLACES)
def test_extremes_stay_finite(word: str, net: str) -> None:
    model, _, x, y = made(net, spread=0.3)
    for inputs, labels in ((torch.zeros_like(x), y), (x.sign() * 1e4, y), (x[:1], y[:1]), (x * 1e-12, y)):
        take(word, model, precision="float64").step(inputs, labels)
        assert all(bool(torch.isfinite(g).all()) for g in grads(model).values())


def likeness(word: str, model: nn.Module, x: Tensor, y: Tensor, precision: str) -> float:
    """The cosine between all updates in one precision and in double."""
    exact = take(word, model, precision="float64").updates(x, y).updates
    found = take(word, copy.deepcopy(model).float(), precision=precision).updates(x.float(), y).updates
    a, b = (torch.cat([part[key].double().flatten() for key in exact]) for part in (exact, found))
    return float(nn.functional.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize(("word", "net"), PLACES)
def test_single_precision_is_near_double(word: str, net: str) -> None:
    """Differences of states keep fewer digits than states: single precision still does. Damped, it starts elsewhere (draws)."""
    model, _, x, y = made(net, bend(word), spread=0.5)
    assert likeness(word, model, x, y, "float32") > (0.99 if word in ("damped", "lpom") else 0.999)


@pytest.mark.parametrize(("word", "net"), PLACES)
def test_bfloat16_is_near_double(word: str, net: str) -> None:
    model, _, x, y = made(net, bend(word), spread=0.5)
    assert likeness(word, model, x, y, "bf16") > 0.9


@pytest.mark.parametrize("word", others_slow(COMPILED))
def test_compiled_is_eager(word: str) -> None:
    model, _, x, y = made("later" if word == "dp pools last" else "mlp", bend(word), spread=0.5)
    eager = take(word, model, precision="float64", **few(word)).updates(x, y)
    compiled = take(word, model, precision="float64", compile="eager", **few(word)).updates(x, y)
    close(compiled.logits, eager.logits, "logits")
    for key, update in eager.updates.items():
        close(compiled.updates[key], update, key)


@pytest.mark.parametrize("word", others_slow(MAPPED))
def test_mapped_over_seeds_is_a_loop(word: str) -> None:
    alone, together = ([dual_nets.conv("later", bend(word), seed, 0.5) for seed in range(3)] for _ in range(2))
    batches = [nets.batch(one, dual_nets.IMAGE, 4) for one in alone]
    x, y = (torch.stack([batch[at] for batch in batches]) for at in (0, 1))
    x = x * torch.tensor([1.0, 0.5, 2.0]).double().view(3, *[1] * (x.dim() - 1))
    told: dict[str, Any] = {"precision": "float64", **few(word)}
    mapped = Mapped([take(word, one, seed=seed, **told) for seed, one in enumerate(together)])
    for _ in range(2):  # the second step replays what the first recorded
        step = mapped.step(x, y)
        for at, one in enumerate(alone):
            rule = take(word, one, seed=at, **told)
            rule.position = mapped.position - 1
            own = rule.step(x[at], y[at])
            close(step.part(at).logits, own.logits, "logits")
            for key, grad in grads(one).items():
                stacked = mapped.weights[key].grad
                assert stacked is not None
                close(stacked[at], grad, key)


@pytest.mark.parametrize("word", [word for word in RULES if RULES[word][0] not in ("eqprop", "chl")])
def test_asking_for_states_or_residuals_changes_nothing(word: str) -> None:
    model, _, x, y = made("later", bend(word), spread=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rule = take(word, model, precision="float64", seed=2)
    plain = rule.updates(x, y).updates
    residuals = rule.residuals(x, y)
    assert len(residuals) == RULES[word][1]["passes"] and rule.position == 0
    assert residuals == rule.residuals(x, y)
    assert all(value >= 0 for value in residuals) and residuals[0] > 0
    again = rule.updates(x, y).updates
    assert all(bool(torch.equal(update, again[key])) for key, update in plain.items())
    assert all(bool(torch.equal(value, before[name])) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
