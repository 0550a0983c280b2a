"""rule.sparse: the sweep over the samples that have a signal gives what the sweep over all of them gives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.engine.draws import Share
from credit.engine.plan import Plan
from credit.rules.backward import normalizers
from credit.rules.base import Rule
from tests.support import nets

N = 12


def satisfied(model: nn.Module, shape: tuple[int, ...], active: list[int], n: int = N) -> tuple[Tensor, Tensor, float]:
    """A batch and a margin that every sample meets but the ``active`` ones, which get the least likely label."""
    x = torch.randn((n, *shape), generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    with torch.no_grad():
        z = model.eval()(x)
    model.train()
    y = z.argmax(1)
    best = z.topk(2, 1).values
    y[active] = z.argmin(1)[active]
    return x, y, float((best[:, 0] - best[:, 1]).min()) * 0.999


class Counted:
    """How many samples the backward pass begins with, step by step, whichever rule's it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        backward = Plan.backward

        def counting(plan: Plan, run: Any, signal: Tensor, rule: Any) -> dict[str, Tensor]:
            self.seen.append(len(signal))
            return backward(plan, run, signal, rule)

        monkeypatch.setattr(Plan, "backward", counting)


def grads(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, p in model.named_parameters():
        assert p.grad is not None, f"{name} has no .grad"
        found[name] = p.grad.clone()
    return found


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Equal to 1e-12 of each tensor's size."""
    assert a.keys() == b.keys()
    for name in a:
        gap, size = float((a[name] - b[name]).abs().max()), float(b[name].abs().max())
        assert gap <= 1e-12 * max(size, 1e-30), f"{name}: {gap:.2g} of {size:.2g}"


def dropping() -> nn.Module:
    """Grouped and strided convolutions, average pool, group norm, dropout of elements and channels."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.GroupNorm(2, 4), nn.Tanh(), nn.Dropout2d(0.3),
        nn.Conv2d(4, 6, 2, dilation=2), nn.ReLU(), nn.AvgPool2d((2, 1)), nn.Flatten(), nn.Dropout(0.4), nn.LayerNorm(12),
        nn.Linear(12, nets.CLASSES),
    ).double()  # fmt: skip


def frozen_norm() -> nn.Module:
    """The residual net with batch norms frozen at statistics of their own."""
    model = nets.Residual("relu", norm=True)
    for norm in (model.norm1, model.norm2):
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
    return model


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nets.mlp("relu"), (7,)),
    "smooth": (lambda: nets.mlp("sigmoid"), (7,)),
    "step": (lambda: nets.mlp("step"), (7,)),
    "residual": (lambda: nets.Residual("relu", norm=False), (2, 5, 7)),
    "dropping": (dropping, (2, 7, 7)),
    "frozen": (frozen_norm, (2, 5, 7)),
}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "lisp_margin": ("lisp_margin", {}),
    "lisp": ("lisp", {}),
    "lisp_raw": ("lisp_raw", {}),
    "bp_hinge": ("bp_hinge", {}),
    "bp_normhinge": ("bp_normhinge", {}),
    "inverse": ("lisp", {"gate": "inverse"}),
    "feedback": ("lisp_margin", {"feedback_weights": "fixed_random"}),
    "sign": ("lisp_margin", {"feedback_weights": "sign"}),
    "fresh": ("lisp_margin", {"feedback_weights": "sign_random"}),
    "direct": ("bp_hinge", {"feedback_weights": "direct"}),
    "channels": ("lisp_margin", {"feedback_weights": "direct", "dfa_map": "channels"}),
    "largest": ("bp_hinge", {"normalizer": "max_abs"}),
    "dropped": ("lisp_margin", {"signal_dropout": 0.3}),
    "clipped": ("lisp_margin", {"clip": 0.01}),
}
GATES = {
    "step": {"bp_hinge", "bp_normhinge", "direct", "inverse", "largest", "channels"},  # no derivative, no inverse
    "mlp": {"channels"},
    "smooth": {"channels"},
}  # no convolution


def looks(rule: Rule) -> bool:
    """Whether a rule looks for samples to leave out."""
    assert isinstance(rule, credit.BackwardRule)
    return rule.sparse


def pair(net: str, rule: str, margin: float, **options: Any) -> list[tuple[nn.Module, Rule]]:
    name, chosen = RULES[rule]
    made = []
    for sparse in (True, False):
        torch.manual_seed(3)
        model = NETS[net][0]().train()
        if net == "frozen":
            for module in model.modules():
                module.training = not isinstance(module, nn.BatchNorm2d)
        made.append((model, credit.rule(name, model, seed=4, margin=margin, sparse=sparse, **chosen, **options)))
    return made


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("net", NETS)
def test_equals_the_dense_sweep(net: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if rule in GATES.get(net, ()):
        pytest.skip("this gate refuses this activation")
    torch.manual_seed(3)
    make, shape = NETS[net]
    probe = make().eval()
    x, y, margin = satisfied(probe, shape, [1, 4, 5, 9])
    (sparse_model, sparse), (dense_model, dense) = pair(net, rule, margin)
    counted = Counted(monkeypatch)
    for _ in range(2):  # the second step draws anew
        sparse.watch = dense.watch = True
        a, b = sparse.step(x, y), dense.step(x, y)
        assert counted.seen[-2] < counted.seen[-1] == N
        assert torch.equal(a.logits, b.logits) and torch.equal(a.loss, b.loss)
        close(a.signals, b.signals)
        close(grads(sparse_model), grads(dense_model))


@pytest.mark.parametrize("active", [[], [7], list(range(N))], ids=["none", "one", "all"])
@pytest.mark.parametrize("rule", ["lisp_margin", "direct", "largest"])
def test_none_one_and_all_active(rule: str, active: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, margin = satisfied(nets.Residual("relu", norm=False), (2, 5, 7), active)
    (sparse_model, sparse), (dense_model, dense) = pair("residual", rule, margin)
    counted = Counted(monkeypatch)
    step = sparse.step(x, y)
    dense.step(x, y)
    assert counted.seen == [len(active), N]
    close(grads(sparse_model), grads(dense_model))
    assert any(bool(grad.any()) for grad in grads(sparse_model).values()) == bool(active)
    assert float(step.signals["output.active"]) == len(active) / N


@pytest.mark.parametrize("active", [[], [0]])
def test_a_batch_of_one(active: list[int]) -> None:
    x, y, margin = satisfied(nets.mlp("relu"), (7,), active, n=1)
    (sparse_model, sparse), (dense_model, dense) = pair("mlp", "lisp_margin", margin)
    sparse.step(x, y)
    dense.step(x, y)
    close(grads(sparse_model), grads(dense_model))


def test_watched_steps_without_any_signal_report_zeros() -> None:
    x, y, margin = satisfied(nets.mlp("relu"), (7,), [])
    (_, sparse), (_, dense) = pair("mlp", "lisp_margin", margin)
    sparse.watch = dense.watch = True
    found = sparse.step(x, y).signals
    assert found.keys() == dense.step(x, y).signals.keys() and not any(map(float, found.values()))


def test_auto_leaves_out_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.mlp("relu")
    seen = {}
    for count in (2, 9, 11):  # of 12
        x, y, margin = satisfied(model, (7,), list(range(count)))
        rule = credit.rule("lisp_margin", model, margin=margin)
        counted = Counted(monkeypatch)
        rule.step(x, y)
        seen[count] = counted.seen[-1]
    assert seen == {2: 2, 9: 9, 11: 12}


def test_auto_looks_only_at_signals_with_a_margin() -> None:
    model = nets.mlp("relu")
    assert [looks(credit.rule(name, model)) for name in ("lisp", "bp_hinge")] == [True, True]
    assert [looks(credit.rule(name, model)) for name in ("bp", "lisp_ce")] == [False, False]
    assert looks(credit.rule("bp", model, sparse=True))


def test_batch_norm_stays_dense_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.Residual("relu", norm=True)
    x, y, margin = satisfied(model, (2, 5, 7), [0, 1])
    rule = credit.rule("lisp_margin", model, margin=margin)
    counted = Counted(monkeypatch)
    rule.step(x, y)
    assert counted.seen == [N]
    with pytest.raises(
        UserError,
        match=r"rule.sparse=true .* batch_norm 'norm1' in Residual .*batch's statistics.*write rule.sparse=auto",
    ):
        credit.rule("lisp_margin", model, sparse=True)


class Centred(nn.Module):
    """Subtracts the batch's mean, which couples samples without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.head = nn.Linear(7, 6), nn.Linear(6, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(x)
        out: Tensor = self.head(torch.relu(h - h.mean(0, keepdim=True)))
        return out


def test_other_coupling_is_refused_at_the_first_batch() -> None:
    torch.manual_seed(0)
    model = Centred().double()
    x, y, margin = satisfied(model, (7,), [0, 1])
    with pytest.raises(UserError, match="mean 'mean' in Centred mixes samples"):
        credit.rule("lisp_margin", model, sparse=True).step(x, y)
    auto, dense = (credit.rule("lisp_margin", model, margin=margin, sparse=s) for s in ("auto", False))
    auto.step(x, y)
    found = grads(model)
    dense.step(x, y)
    assert all(torch.equal(found[name], grad) for name, grad in grads(model).items())


@pytest.mark.usefixtures("registry_as_it_was")
def test_own_parts_are_dense_until_they_say_otherwise() -> None:
    class Mine(credit.BackwardRule):
        def arrive(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return super().arrive(op, run, signal) - signal.mean(0)

    class MyRms(normalizers.RootMeanSquare):
        def __call__(self, op: Any, run: Any, signal: Tensor) -> Tensor:
            return super().__call__(op, run, signal - signal.mean(0))

    class Renamed(normalizers.RootMeanSquare):
        """Changes nothing, so that its parent's traits are its own."""

    model = nets.mlp("relu")
    options = {"loss": "worst_violation"}
    assert not looks(Mine(model, options))
    with pytest.raises(UserError, match="has a 'arrive' of its own, which may mix samples"):
        Mine(model, options | {"sparse": True})
    credit.register("normalizer", "my_rms")(MyRms)
    assert not looks(credit.rule("lisp_margin", model, normalizer="my_rms"))
    with pytest.raises(UserError, match="rule.normalizer=my_rms does not declare traits = credit.Traits"):
        credit.rule("lisp_margin", model, normalizer="my_rms", sparse=True)
    credit.register("normalizer", "renamed")(Renamed)
    assert looks(credit.rule("lisp_margin", model, normalizer="renamed"))


class Asked:
    """Shares of a batch, of which one process has all, that count the values to be exchanged."""

    times = 0
    across = None

    def updates(self, rule: Any, x: Tensor, y: Tensor) -> Any:
        rule.share = Share(0, len(x), len(x))
        return rule.updates(x, y)

    def maximum(self, value: Tensor) -> Tensor:
        self.times += 1
        return value


def test_processes_exchange_the_largest_value_also_where_all_samples_are_satisfied() -> None:
    model = nets.mlp("relu")
    x, y, margin = satisfied(model, (7,), [])
    rule: Any = credit.rule("lisp_margin", model, normalizer="max_abs", margin=margin)
    assert rule.sparse
    rule.sharing = asked = Asked()
    assert rule.step(x, y).loss == 0
    assert asked.times == sum(isinstance(one, nn.Linear) for one in model.modules())


def test_compiled_and_mapped_steps_are_dense() -> None:
    model = nets.mlp("relu")
    x, y, margin = satisfied(model, (7,), [2])
    with pytest.raises(UserError, match="a compiled step has one shape for every batch"):
        credit.rule("lisp_margin", model, compile="eager", sparse=True)
    options: dict[str, Any] = {"signal_dropout": 0.3, "margin": margin}
    rule = credit.rule("lisp_margin", model, sparse=True, **options)
    function, arguments = rule.functional(x, y)
    assert rule._requests and len(arguments[-1]) == 3  # what a dense step draws, at three layers
    assert all(len(draw) == N for draw in arguments[-1].values())
    with torch.no_grad():
        mapped = torch.func.vmap(function, in_dims=(None, None, 0, 0, None))(
            arguments[0], arguments[1], x[None], y[None], arguments[4]
        )
    close({name: value[0] for name, value in mapped[2].items()}, rule.updates(x, y).updates)
    _, satisfied_all, _ = satisfied(model, (7,), [])
    rule = credit.rule("lisp_margin", model, sparse=True, **options)
    assert len(rule.functional(x, satisfied_all)[1][-1]) == 3  # with no sample active too


def test_other_words_are_refused() -> None:
    with pytest.raises(UserError, match="rule.sparse=always"):
        credit.rule("lisp_margin", nets.mlp("relu"), sparse="always")
