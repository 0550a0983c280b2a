"""Several replicas in one step: their models stay their own, norms are a replica's own, and what cannot be mapped is named."""

import copy

import pytest
import torch
from torch import nn

import credit.rules.api as api
from credit.core.errors import UserError
from credit.rules import Mapped
from credit.rules.replicas import why_not
from credit.rules.transforms import clip, clip_norm, reproject
from tests.support.covering import covering

REPLICAS = 3


def nets() -> list[nn.Module]:
    def net(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()

    with torch.random.fork_rng(devices=[]):
        return [net(seed) for seed in range(REPLICAS)]


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(5)
    x = torch.randn(REPLICAS, 10, 6, generator=source, dtype=torch.float64)
    return x, torch.randint(0, 4, (REPLICAS, 10), generator=source)


def halve_where_positive(parameters, updates):
    return {name: torch.where(parameters[name] > 0, update / 2, update) for name, update in updates.items()}


@pytest.mark.parametrize(
    ("options", "own"),
    covering(1, ({}, {"clip": 0.01}, {"clip_norm": 0.05}, {"clip_unit": 0.05}, {"reproject": 0.02, "clip": 0.05}),
             (False, True), slow=2),
)  # fmt: skip
def test_models_move_as_by_their_own_steps(options, own):
    alone = nets()
    together = copy.deepcopy(alone)
    x, y = batches()

    def made(models: list[nn.Module]) -> list:
        rules = [api.rule("bp", model, seed=seed, precision="float64", **options) for seed, model in enumerate(models)]
        for rule in rules:
            rule.transforms += [halve_where_positive] if own else []
        return rules

    mapped = Mapped(made(together))
    whole = torch.optim.SGD(mapped.parameters(), lr=0.5, momentum=0.9)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9) for model in alone]
    rules = made(alone)
    for _ in range(4):
        outcome = mapped.step(x, y)
        whole.step()
        for at, (rule, optimizer) in enumerate(zip(rules, optimizers, strict=True)):
            step = rule.step(x[at], y[at])
            optimizer.step()
            torch.testing.assert_close(outcome.part(at).logits, step.logits, rtol=1e-10, atol=1e-12)
            assert outcome.part(at).signals["output.rms"] == pytest.approx(float(step.signals["output.rms"]), rel=1e-9)
    for one, other in zip(alone, together, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-10, atol=1e-12)


def test_some_replicas_can_go_on_alone():
    models = nets()
    mapped = Mapped([api.rule("bp", model, seed=seed, precision="float64") for seed, model in enumerate(models)])
    x, y = batches()
    mapped.step(x, y)
    before = {name: p.grad for name, p in mapped.weights.items() if p.grad is not None}
    mapped.keep([0, 2])
    for name, p in mapped.weights.items():
        assert p.shape[0] == 2 and p.grad is not None and torch.equal(p.grad, before[name][[0, 2]])
    left = {name: value.clone() for name, value in models[1].state_dict().items()}
    mapped.step(x[[0, 2]], y[[0, 2]])
    with torch.no_grad():
        for p in mapped.parameters():
            p.add_(1.0)
    assert all(torch.equal(value, left[name]) for name, value in models[1].state_dict().items())
    assert torch.equal(models[2].get_parameter("0.weight"), mapped.weights["0.weight"][1])


@pytest.mark.parametrize("transform", [clip(0.1), clip(0.1, {"b"}), clip_norm(0.5), reproject(0.3)])
def test_limits_of_stacks_are_each_replicas_own(transform):
    source = torch.Generator().manual_seed(0)
    parameters = {"a": torch.randn(3, 4, 5, generator=source), "b": torch.zeros(3, 4)}
    updates = {name: torch.randn(value.shape, generator=source) for name, value in parameters.items()}
    together = transform.together(parameters, {name: value.clone() for name, value in updates.items()})
    for at in range(3):
        own = {name: value[at].clone() for name, value in updates.items()}
        for name, value in transform({name: p[at] for name, p in parameters.items()}, own).items():
            torch.testing.assert_close(together[name][at], value)


def test_a_compiled_pass_gives_the_same_updates():
    grads = []
    for compiled in (False, "aot_eager"):
        mapped = Mapped(
            [api.rule("bp", net, seed=at, precision="float64") for at, net in enumerate(nets())], compiled=compiled
        )
        mapped.step(*batches())
        grads.append([p.grad for p in mapped.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_rules_that_saw_no_batch_yet_and_batches_that_do_not_fit():
    models = nets()
    mapped = Mapped([api.rule("dfa", model, seed=seed) for seed, model in enumerate(models)])
    x, y = batches()
    mapped.step(x, y)
    assert all(rule.buffers for rule in mapped.rules) and all(p.grad is not None for p in mapped.parameters())
    with pytest.raises(
        UserError, match=r"x is \(2, 10, 6\) and y \(3, 10\); 3 replicas take x \(3, B, ...\) and y \(3, B\)"
    ):
        mapped.step(x[:2], y)
    with pytest.raises(UserError, match="y must hold one int64 label a sample"):
        mapped.step(x, y.double())


def other_act() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)).double()


def wider() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4)).double()


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (lambda model: api.rule("fa", model), "rules 0 and 1 differ in their name"),
        (lambda model: api.rule("untied_constant", model, height=2.0), "rules 0 and 1 differ in their options"),
        (lambda model: api.rule("untied_constant", other_act()), "rules 0 and 1 differ in their networks"),
        (lambda model: api.rule("untied_constant", wider()), "rules 0 and 1 differ in their weights"),
    ],
)
def test_rules_of_which_the_first_cannot_stand_for_all_are_refused(second, words):
    models = nets()
    with pytest.raises(UserError, match=words):
        Mapped([api.rule("untied_constant", models[0]), second(models[1])])


def test_no_rules_and_one_network_for_two_are_refused():
    with pytest.raises(UserError, match="there is no rule"):
        Mapped([])
    model, other = nets()[:2]
    with pytest.raises(UserError, match="rules 0 and 2 train the same '0.weight'"):
        Mapped([api.rule("bp", each) for each in (model, other, model)])


def test_a_label_that_is_no_class_is_named_at_the_first_step_and_later():
    mapped = Mapped([api.rule("bp", model) for model in nets()])
    x, y = batches()
    wrong = y.clone()
    wrong[2, 3] = 4  # of a replica that no eager step looks at
    for _ in range(2):
        with pytest.raises(UserError, match=r"label 4 is outside \[0, 4\)"):
            mapped.step(x, wrong)
        mapped.step(x, y)


def test_every_rule_stands_where_the_pass_stands():
    mapped = Mapped([api.rule("jam_full", model, seed=seed) for seed, model in enumerate(nets())])
    for _ in range(2):
        mapped.step(*batches())
    assert [rule.state_dict()["position"] for rule in mapped.rules] == [2, 2, 2]


def test_what_cannot_be_mapped_is_named():
    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
            self.head = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.fc(x).unsqueeze(1)
            return self.head(self.attention(h, h, h, need_weights=False)[0].squeeze(1))

    x, y = batches()
    rule = api.rule("bp", Choosy().double(), precision="float64", local_autograd=True)
    assert "attention" in (why_not(rule, x[0], y[0]) or "")
    cumulative = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=None), nn.ReLU(), nn.Linear(8, 4)).double()
    assert "norm '1'" in (why_not(api.rule("bp", cumulative, precision="float64"), x[0], y[0]) or "")
    assert why_not(api.rule("lisp_margin", nets()[0], precision="float64"), x[0], y[0]) is None


def test_every_replicas_own_limit_acts_on_its_updates():
    models, (x, y), shares = nets(), batches(), (1e-2, 1e-4, 1e-3)
    rules = [api.rule("bp", model, precision="float64") for model in models]
    for rule, share in zip(rules, shares, strict=True):
        rule.transforms.append(clip(share))
    mapped = Mapped(rules)
    mapped.step(x, y)
    weight = mapped.weights["3.weight"]
    assert weight.grad is not None
    found = torch.linalg.vector_norm(weight.grad.flatten(1), dim=1) / torch.linalg.vector_norm(weight.flatten(1), dim=1)
    torch.testing.assert_close(found.detach(), torch.tensor(shares, dtype=torch.float64))
