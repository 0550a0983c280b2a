"""What the paper says of dual propagation, of the rules themselves: where it is backprop, and where it comes to rest."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import credit
from credit.rules.outcome import InferenceDiverged
from tests.rules.energy.test_dual_twins import made
from tests.rules.lfp.test_lfp_twins import close
from tests.support import dual_nets, nets, twins_dual
from tests.support.covering import covering
from tests.support.dual_nets import network_of
from tests.support.twins_dual import Settings

# --- one linear region ---------------------------------------------------------------------------------------------------------


def firm(net: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of small weights whose units are all far from 0, on one side or the other, whatever a nudge does."""
    model, _, x, y = made(net, spread=0.3)
    weights = {name.removesuffix(".weight"): p for name, p in model.named_parameters() if name.endswith("weight")}
    with torch.no_grad():
        for name, weight in weights.items():
            sides = torch.tensor([1.0, -1.0]).repeat(len(weight))[: len(weight)].double()
            if f"{name}.bias" in dict(model.named_parameters()):
                model.get_parameter(f"{name}.bias").copy_(3 * sides)
            else:  # of inputs that are not below 0
                weight.copy_(weight.abs() * sides.view(-1, *[1] * (weight.dim() - 1)))
    return model, x, y


def in_one_region(rule: Any, x: Tensor, y: Tensor) -> bool:
    """Whether both states of every hidden unit are on the side of 0 where the forward pass has it."""
    forward: Any = credit.rule("dp_adjoint", rule.model, precision="float64", beta=1e-12, pool_first=False)
    forward.keep_states = True
    at_rest = forward.updates(x, y).states
    found = rule.updates(x, y).states
    return all(
        bool(torch.equal(s > 0, rest[0] > 0)) for pair, rest in zip(found[:-1], at_rest[:-1], strict=True) for s in pair
    )


@pytest.mark.parametrize(
    ("net", "loss", "alpha", "beta", "order"),
    covering(2, ("mlp", "act-max", "max-act", "later", "average", "residual"), ("half_sse", "ce"), (0.0, 1.0, "by layer"),
             (0.01, 0.3, "by layer"), (("fwbw", 1), ("fwbw", 2), ("fw", 6))),
)  # fmt: skip
def test_the_adjoint_variant_is_backprop_within_one_linear_region(
    net: str, loss: str, alpha: Any, beta: Any, order: tuple[str, int]
) -> None:
    """At any alpha, beta and number of passes: its mean states are those of the forward pass (Proposition 5.1)."""
    model, x, y = firm(net)
    gradient = dual_nets.backprop(model, x, y, loss)
    count = {"residual": 6, "later": 4}.get(net, 3)
    told: dict[str, Any] = {
        "alpha": [0.1 * k for k in range(count)] if alpha == "by layer" else alpha,
        "beta": [0.3 / (k + 1) for k in range(count)] if beta == "by layer" else beta,
        "schedule": order[0],
        "passes": order[1],
        "loss": loss,
    }
    rule: Any = credit.rule("dp_adjoint", model, precision="float64", pool_first=False, **told)
    rule.keep_states = True
    assert in_one_region(rule, x, y)
    for key, update in rule.updates(x, y).updates.items():
        assert gradient[key].any()
        close(update, gradient[key], key)


@pytest.mark.parametrize("options", [{"nudge": "frozen"}, {"input_robustness": True}, {"pool_first": True}])
@pytest.mark.parametrize("net", ["mlp", "act-max", "residual"])
def test_so_it_is_with_these_options(net: str, options: dict[str, Any]) -> None:
    model, x, y = firm(net)
    gradient = dual_nets.backprop(model, x, y, "ce")
    for alpha in (0.0, 0.3, 1.0):
        updates = credit.rule(
            "dp_adjoint", model, precision="float64", alpha=alpha, beta=0.5, passes=2, **options
        ).updates(x, y)
        for key, update in updates.updates.items():
            close(update, gradient[key], key)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_original_variant_is_not_backprop_there_unless_symmetric(alpha: float) -> None:
    model, x, y = firm("mlp")
    gradient = dual_nets.backprop(model, x, y, "half_sse")
    updates = (
        credit.rule("dp", model, precision="float64", alpha=alpha, beta=0.5, loss="half_sse", passes=3)
        .updates(x, y)
        .updates
    )
    gap = max(
        float(np.abs(update.numpy() - gradient[key]).max() / np.abs(gradient[key]).max())
        for key, update in updates.items()
    )
    assert gap > 0.01
    symmetric = (
        credit.rule("dp", model, precision="float64", alpha=0.5, beta=0.5, loss="half_sse", passes=3)
        .updates(x, y)
        .updates
    )
    for key, update in symmetric.items():
        close(update, gradient[key], key)


@pytest.mark.parametrize("name", ["dp", "dp_adjoint", "dp_damped", "lpom", "fenchel_bp"])
@pytest.mark.parametrize("loss", ["half_sse", "ce"])
def test_weak_nudges_turn_to_the_reference(name: str, loss: str) -> None:
    """``rule.reference`` is backprop on the rule's own loss, and its gradient autograd's."""
    model, _, x, y = made("mlp", "tanh" if name in ("dp", "dp_adjoint") else "relu")
    told: dict[str, Any] = {"passes": 60} if name == "lpom" else {}
    rule: Any = credit.rule(name, model, precision="float64", loss=loss, beta=1e-5, **told)
    reference = credit.rule("bp", model, precision="float64", **rule.reference).updates(x, y)
    ours, gradient = rule.updates(x, y), dual_nets.backprop(model, x, y, loss)
    assert float(ours.loss) == pytest.approx(float(reference.loss), rel=1e-12)
    for key, update in reference.updates.items():
        close(update, gradient[key], key)
        assert torch.linalg.vector_norm(ours.updates[key] - update) < 1e-3 * torch.linalg.vector_norm(update), key


# --- symmetry ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["mlp", "both", "residual"])
@pytest.mark.parametrize("schedule", ["fwbw", "fw", "random"])
def test_both_variants_agree_where_they_are_symmetric(net: str, schedule: str) -> None:
    """Section 6.1: at alpha 1/2 hidden units follow one rule; the outputs differ by how they are nudged (Eqs. 3, 22)."""
    model, _, x, y = made(net)
    found = {}
    for name, nudge in (("dp", "current"), ("dp_adjoint", "current"), ("dp", "prox")):
        told: dict[str, Any] = {
            "alpha": 0.5,
            "beta": 0.5,
            "loss": "half_sse",
            "schedule": schedule,
            "passes": 7,
            "nudge": nudge,
        }
        rule: Any = credit.rule(name, model, precision="float64", **told)
        rule.keep_states = True
        found[name, nudge] = rule.updates(x, y)
    one, other, exact = found.values()
    for k, (pair, same) in enumerate(zip(one.states, other.states, strict=True), 1):
        for s, t in zip(pair, same, strict=True):
            close(s, t, f"state {k}")
    for key, update in one.updates.items():
        close(update, other.updates[key], key)
    assert not torch.allclose(one.states[-1][0], exact.states[-1][0], rtol=1e-3)


@pytest.mark.parametrize("net", ["mlp", "both"])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_alpha_and_its_complement_are_not_mistaken_for_each_other(net: str, alpha: float) -> None:
    """A rule that swapped them would be the other variant, or the same one at 1 - alpha: both are far away."""
    model, twin, x, y = made(net)
    far = {("dp", "original"): [("adjoint", alpha), ("original", 1 - alpha)],
           ("dp_adjoint", "adjoint"): [("original", alpha), ("adjoint", 1 - alpha)]}  # fmt: skip
    for (name, variant), others in far.items():
        rule: Any = credit.rule(
            name, model, precision="float64", alpha=alpha, beta=0.5, loss="half_sse", passes=2, pool_first=False
        )
        rule.keep_states = True
        states = rule.updates(x, y).states
        for word, weight, same in ((variant, alpha, True), *((*other, False) for other in others)):
            plus = twins_dual.step(twin, x.numpy(), y.tolist(), Settings(word, weight, 0.5, passes=2)).plus[1]
            assert np.allclose(states[0][0].flatten(1).numpy(), plus, rtol=1e-9) == same


# --- repeated passes -----------------------------------------------------------------------------------------------------------


def lively() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network whose last layers amplify: beta |W^T W| is above 1."""
    model = dual_nets.mlp("relu", (7, 20, 20, 5), spread=1.6)
    return model, *nets.batch(model, (7,), 3)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_repeated_passes_drive_asymmetric_dp_apart_and_the_adjoint_variant_not(alpha: float) -> None:
    """Appendix A.1; the twin shows it too. Least squares, beta 1/2."""
    model, x, y = lively()
    net = network_of(model, (7,))
    grown = {}
    for variant, weight in (("original", alpha), ("adjoint", alpha), ("original", 0.5)):
        s = Settings(variant, weight, 0.5, passes=6)
        twin = twins_dual.step(net, x.numpy(), y.tolist(), s)
        name = {"original": "dp", "adjoint": "dp_adjoint"}[variant]
        rule: Any = credit.rule(name, model, precision="float64", alpha=weight, beta=0.5, loss="half_sse", passes=6)
        rule.keep_states = True
        done = rule.updates(x, y)
        sizes = [float(torch.linalg.vector_norm(done.states[k][0])) for k in range(3)]
        assert sizes == pytest.approx([float(np.linalg.norm(twin.plus[k])) for k in (1, 2, 3)], rel=1e-6)
        grown[variant, weight] = sizes[-1]
        residuals = rule.residuals(x, y)
        assert residuals[-1] > 0.1 if (variant, weight) == ("original", alpha) else residuals[-1] < 1e-3
    assert grown["original", alpha] > 10 * max(grown["adjoint", alpha], grown["original", 0.5])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_divergence_is_named(alpha: float) -> None:
    model, x, y = lively()
    with pytest.raises(InferenceDiverged) as found:
        credit.rule("dp", model, precision="float64", alpha=alpha, beta=0.5, loss="half_sse", passes=100).step(x, y)
    assert found.value.where == "activation '1'"
    for word in ("its states grew to", "rule.passes=100", "rule.alpha=0.5", "rule=dp_adjoint or rule=dp_damped"):
        assert word in found.value.why
    assert all(p.grad is None for p in model.parameters())
    for name, weight in (("dp_adjoint", alpha), ("dp", 0.5)):
        step = credit.rule(name, model, precision="float64", alpha=weight, beta=0.5, loss="half_sse", passes=100).step(
            x, y
        )
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        assert bool(torch.isfinite(step.loss))


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.02), (1.0, 0.5)])
def test_damping_brings_asymmetric_dp_to_rest(alpha: float, beta: float) -> None:
    """Appendix F, with the paper's five power iterations."""
    model, x, y = lively()
    told: dict[str, Any] = {"alpha": alpha, "beta": beta, "loss": "half_sse", "passes": 200, "precision": "float64"}
    damped: Any = credit.rule("dp_damped", model, **told)
    assert damped.residuals(x, y)[-1] < 1e-4 * damped.residuals(x, y)[0]
    plain: Any = credit.rule("dp", model, **told)
    assert not plain.residuals(x, y)[-1] < 0.5 * plain.residuals(x, y)[0]  # grows, or goes around


def test_an_adversary_that_is_too_strong_has_no_resting_point() -> None:
    """At alpha 0 s^- maximises the loss less E / beta, which has no maximum where beta (1 + |W_3|^2 + |W_3 W_2|^2) is above 1."""
    model, x, y = lively()
    three, two = (model.get_parameter(f"{word}.weight").detach() for word in "42")
    assert 0.5 * (1 + torch.linalg.matrix_norm(three, 2) ** 2 + torch.linalg.matrix_norm(three @ two, 2) ** 2) > 10
    told: dict[str, Any] = {"alpha": 0.0, "beta": 0.5, "loss": "half_sse", "passes": 20}
    rule: Any = credit.rule("dp_damped", model, precision="float64", **told)
    rule.keep_states = True
    assert rule.residuals(x, y)[-1] > 0.1
    few = credit.rule("dp_damped", model, precision="float64", **told | {"passes": 10}).updates(x, y).updates
    assert torch.linalg.vector_norm(rule.updates(x, y).updates["0.weight"]) > 5 * torch.linalg.vector_norm(
        few["0.weight"]
    )


@pytest.mark.parametrize("name", ["dp_damped", pytest.param("lpom", marks=pytest.mark.slow)])
def test_damped_states_rest_where_the_lifted_objective_does(name: str) -> None:
    """At alpha 1 the resting point is Eq. 46's: s_k = f(a_k + W_k^T (s_{k+1} - f(W_k s_k))), the output least squares' minimum."""
    model, x, y = lively()
    told: dict[str, Any] = {"alpha": 1.0, "beta": 0.5, "loss": "half_sse", "passes": 1500, "nudge": "prox"}
    rule: Any = credit.rule(name, model, precision="float64", **told)
    rule.keep_states = True
    s1, s2, s3 = (plus for plus, _ in rule.updates(x, y).states)
    one, two, three = (model.get_submodule(word) for word in "024")
    with torch.no_grad():
        targets = nn.functional.one_hot(y, 5)
        close(s3, (three(s2) + 0.5 * targets) / 1.5, "output")
        for s, below, w, above, f in (
            (s2, two(s1), three.weight, s3, three(s2)),
            (s1, one(x), two.weight, s2, two(s1).relu()),
        ):
            torch.testing.assert_close(s, (below + (above - f) @ w).relu(), rtol=1e-7, atol=1e-7)
            assert bool(((above - f).abs() > 1e-3).any())
