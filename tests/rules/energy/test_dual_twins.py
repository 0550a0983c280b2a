"""Dual propagation equals its slow twin in float64: both states of every unit, the updates, the loss, what each pass moves."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.rules.energy.damping import strength
from credit.rules.energy.dual import order
from tests.rules.lfp.test_lfp_twins import close
from tests.support import dual_nets, nets, twins_dual
from tests.support.covering import covering
from tests.support.dual_nets import network_of
from tests.support.twins_dual import Settings
from tests.support.twins_states import Network

NAMES = {"original": "dp", "adjoint": "dp_adjoint", "lpom": "lpom"}
CONVS = ("act-max", "max-act", "both", "later", "average", "linear", "quarters", "means")


def made(net: str, activation: str = "relu", spread: float = 0.8) -> tuple[nn.Module, Network, Tensor, Tensor]:
    """A model, its twin, and a batch of 3."""
    if net == "residual":
        model: Any = dual_nets.Residual(activation, spread=spread)
        return model, model.network(), *nets.batch(model, dual_nets.RESIDUAL_IMAGE, 3)
    model = dual_nets.mlp(activation, spread=spread) if net == "mlp" else dual_nets.conv(net, activation, spread=spread)
    shape = (7,) if net == "mlp" else dual_nets.IMAGE
    return model, network_of(model, shape), *nets.batch(model, shape, 3)


def check(case: tuple[nn.Module, Network, Tensor, Tensor], s: Settings, **options: Any) -> None:
    """Compare a rule's step with its twin's."""
    model, net, x, y = case
    shared = ("alpha", "beta", "loss", "schedule", "passes", "nudge", "switches")
    told: dict[str, Any] = {word: getattr(s, word) for word in shared}
    told |= {"damped": False, "input_robustness": s.input_term, "pool_first": False} | options
    rule: Any = credit.rule(NAMES[s.variant], model, precision="float64", seed=7, **told)
    rule.keep_states = True
    rule.position = 3
    if s.schedule == "random":
        first = 0 if s.input_term else 1
        s.orders = order("random", s.passes, first, len(net), seeds=(7, 3))
        assert all(sorted(one) == list(range(first, len(net) + 1)) for one in s.orders)
    twin = twins_dual.step(net, x.numpy(), y.tolist(), s)
    residuals = rule.residuals(x, y)
    step = rule.step(x, y)
    close(step.logits, twin.logits, "logits")
    assert float(step.loss) == pytest.approx(twin.loss, rel=1e-12)
    assert len(step.states) == len(net)
    for k, (plus, minus) in enumerate(step.states, 1):
        close(plus.flatten(1), twin.plus[k], f"s+ of state {k}")
        close(minus.flatten(1), twin.minus[k], f"s- of state {k}")
    found = nets.gradients(model)
    assert set(found) == set(twin.updates)
    for key, update in twin.updates.items():
        assert update.any() or key.endswith("bias") or s.schedule == "random", (
            f"{key} is given nothing: the comparison says nothing"
        )
        close(torch.from_numpy(found[key]), update, key)
    assert residuals == pytest.approx(twin.residuals, rel=1e-9, abs=1e-13)


ORDERS = ("fwbw", "fw", "random")


def reaching(net: Network, schedule: str, passes: int, input_term: bool = False) -> int:
    """The number of passes, raised where forward passes need more to take the nudge down to the first layer."""
    return max(passes, len(net) + input_term) if schedule == "fw" else passes


@pytest.mark.parametrize(
    ("net", "variant", "loss", "alpha", "beta", "schedule", "passes"),
    covering(2, ("mlp", "act-max", "max-act"), ("original", "adjoint"), ("half_sse", "ce"), (0.0, 0.5, 1.0),
             (0.01, 0.1, 1.0), ORDERS, (1, 2, 5), slow=3),
)  # fmt: skip
def test_states_and_updates(
    net: str, variant: str, loss: str, alpha: float, beta: float, schedule: str, passes: int
) -> None:
    case = made(net)
    check(case, Settings(variant, alpha, beta, loss, schedule, reaching(case[1], schedule, passes)))


def nudged(variant: str, loss: str, alpha: float, nudge: str, *_: Any) -> bool:
    """Whether a rule takes a nudge; for the others see test_dual_refusals."""
    refused = nudge == "prox" and (variant == "adjoint" or loss == "ce") or variant == "lpom" and alpha != 1
    return not refused


@pytest.mark.parametrize(
    ("variant", "loss", "alpha", "nudge", "place", "schedule", "passes"),
    covering(2, ("original", "adjoint", "lpom"), ("half_sse", "ce"), (0.0, 0.5, 1.0), ("frozen", "prox"),
             (("mlp", 0.9), ("both", 0.1)), ORDERS, (1, 3), where=nudged, slow=3),
)  # fmt: skip
def test_nudges(
    variant: str, loss: str, alpha: float, nudge: str, place: tuple[str, float], schedule: str, passes: int
) -> None:
    net, beta = place
    case = made(net)
    check(case, Settings(variant, alpha, beta, loss, schedule, reaching(case[1], schedule, passes), nudge=nudge))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu", "hardtanh"])
@pytest.mark.parametrize("variant", ["original", "adjoint", "lpom"])
def test_activations(variant: str, activation: str) -> None:
    for net in ("mlp", "act-max"):
        case = made(net, activation)
        check(case, Settings(variant, 1.0, 0.5, "ce", passes=3))


@pytest.mark.parametrize(
    ("net", "beta", "loss", "schedule", "passes"),
    covering(2, ("mlp", *CONVS, "residual"), (0.01, 1.0), ("half_sse", "ce"), ORDERS, (1, 3, 7), slow=3),
)
def test_lpom(net: str, beta: float, loss: str, schedule: str, passes: int) -> None:
    case = made(net)
    check(case, Settings("lpom", 1.0, beta, loss, schedule, reaching(case[1], schedule, passes)))


@pytest.mark.parametrize(
    ("net", "variant", "alpha", "schedule", "passes"),
    covering(2, (*CONVS, "residual"), ("original", "adjoint"), (0.0, 0.3, 1.0), ORDERS, (1, 2, 7), slow=3),
)
def test_other_maps_between_states(net: str, variant: str, alpha: float, schedule: str, passes: int) -> None:
    case = made(net)
    check(case, Settings(variant, alpha, 0.3, "half_sse", schedule, reaching(case[1], schedule, passes)))


@pytest.mark.parametrize(
    ("net", "variant", "alpha", "schedule", "passes"),
    covering(2, ("act-max", "both", "quarters"), ("original", "adjoint"), (0.0, 0.3, 1.0), ORDERS, (1, 3), slow=3),
)
def test_pools_that_change_places_with_activations(
    net: str, variant: str, alpha: float, schedule: str, passes: int
) -> None:
    model, _, x, y = made(net)
    assert isinstance(model, nn.Sequential)
    case = model, network_of(model, dual_nets.IMAGE, pool_first=True), x, y
    s = Settings(variant, alpha, 0.3, "half_sse", schedule, reaching(case[1], schedule, passes))
    check(case, s, pool_first=True)


@pytest.mark.parametrize("variant", ["original", "adjoint", "lpom"])
@pytest.mark.parametrize("net", ["mlp", "both", "residual"])
def test_alpha_and_beta_of_each_layers_own(net: str, variant: str) -> None:
    case = made(net)
    count = len(case[1])
    alpha = [1.0] * count if variant == "lpom" else [0.2 + 0.1 * k for k in range(count)]
    beta = [0.4 / (k + 1) for k in range(count)]
    for schedule, passes in (("fwbw", 1), ("fw", 7), ("random", 2)):
        check(case, Settings(variant, alpha, beta, "half_sse", schedule, passes))
    if variant != "adjoint":
        check(case, Settings(variant, alpha, beta, "half_sse", passes=3, nudge="prox"))


def weighted(variant: str, alpha: float, *_: Any) -> bool:
    """Whether a rule takes an alpha: lifted propagation takes 1 alone."""
    return variant != "lpom" or alpha == 1


@pytest.mark.parametrize(
    ("variant", "alpha", "net", "schedule", "passes"),
    covering(2, ("original", "adjoint", "lpom"), (0.0, 0.5, 1.0), ("mlp", "both", "residual"), ORDERS, (1, 2, 8),
             where=weighted, slow=3),
)  # fmt: skip
def test_a_state_of_the_inputs_own(variant: str, alpha: float, net: str, schedule: str, passes: int) -> None:
    case = made(net)
    passes = reaching(case[1], schedule, passes, input_term=True)
    check(case, Settings(variant, alpha, 0.3, "ce", schedule, passes, input_term=True))


@pytest.mark.parametrize("variant", ["original", "adjoint", "lpom"])
@pytest.mark.parametrize("net", ["mlp", "both", "residual"])
def test_a_state_of_the_inputs_own_by_layer(net: str, variant: str) -> None:
    case = made(net)
    alpha, beta = [1.0 if variant == "lpom" else 0.5] * len(case[1]), [0.1 + 0.1 * k for k in range(len(case[1]))]
    check(case, Settings(variant, alpha, beta, "half_sse", passes=3, input_term=True))


@pytest.mark.parametrize(
    ("variant", "alpha", "input_term", "by_layer", "net"),
    covering(2, ("original", "lpom"), (0.0, 0.3, 1.0), (False, True), (False, True),
             ("mlp", "act-max", "max-act", "average", "quarters", "residual"), where=weighted, slow=3),
)  # fmt: skip
def test_damped(variant: str, alpha: float, input_term: bool, by_layer: bool, net: str) -> None:
    case = made(net, spread=1.2)
    beta = [0.5 / (k + 1) for k in range(len(case[1]))] if by_layer else 0.5
    s = Settings(variant, alpha, beta, "half_sse", passes=4, input_term=input_term)
    s.damping = started(case, s, 5)
    check(case, s, damped=True)


@pytest.mark.parametrize("net", ["mlp", "act-max"])
def test_damped_as_in_the_authors_code(net: str) -> None:
    """L = max(0, (gamma^2 - 1) / 2), gamma the spectral norm: some layers here are damped, some are not."""
    case = made(net, spread=1.2)
    s = Settings("original", 0.3, [0.5 / (k + 1) for k in range(len(case[1]))], "half_sse", passes=4)
    norms = started(case, s, 5)
    excess = {k: [max(0.0, (eigenvalue - 1) / 2) for eigenvalue in found] for k, found in norms.items()}
    assert any(L > 0 for found in excess.values() for L in found)
    s.damping = excess
    check(case, s, damped=True, damping="half_excess")


def test_the_damping_of_the_authors_code_is_never_negative() -> None:
    gammas = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    assert strength("half_excess", gammas.square()).tolist() == [0.0, 0.0, 0.0, 4.0]
    assert strength("norm", gammas.square()).tolist() == [0.0, 0.25, 1.0, 9.0]


def started(case: tuple[nn.Module, Network, Tensor, Tensor], s: Settings, iterations: int) -> dict[int, list[float]]:
    """L_k by power iterations from the vectors that the rule of ``check`` draws."""
    model, net, x, y = case
    told: dict[str, Any] = {"passes": s.passes, "input_robustness": s.input_term, "pool_first": False}
    rule = credit.rule("dp_damped", model, precision="float64", seed=7, **told)
    rule.position = 3
    drawn = rule.functional(x, y)[1][-1]
    starts = {int(name.removeprefix("damping.")): value.numpy() for name, value in drawn.items()}
    return twins_dual.norms_of(net, x.numpy(), s, starts, iterations)


@pytest.mark.parametrize("net", ["mlp", "act-max", "later"])
def test_power_iterations_end_at_the_spectral_norm(net: str) -> None:
    case = made(net, spread=1.2)
    s = Settings(beta=[0.5 / (k + 1) for k in range(len(case[1]))])
    exact, few, many = twins_dual.norms_of(case[1], case[2].numpy(), s), started(case, s, 5), started(case, s, 3000)
    for k, norms in exact.items():
        assert many[k] == pytest.approx(norms, rel=1e-6)
        assert all(0.5 * norm < found <= norm * (1 + 1e-9) for found, norm in zip(few[k], norms, strict=True))


@pytest.mark.parametrize("order_", ["fw", "fwbw"])
@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 2), (1, 5), (0, 1), (0, 4)])
def test_orders(order_: str, first: int, last: int) -> None:
    for passes in (1, 2, 4):
        s = Settings(schedule=order_, passes=passes, input_term=first == 0)
        assert order(order_, passes, first, last) == twins_dual.order_of(s, last)


def test_orders_as_they_are_written_in_the_paper_s_code() -> None:
    flat = lambda *given: [number for one in order(*given) for number in one]  # noqa: E731 - a shorthand
    assert flat("fwbw", 1, 1, 4) == [4, 3, 2, 1]
    assert flat("fwbw", 3, 1, 4) == [4, 3, 2] + [1, 2, 3, 4, 3, 2, 1] * 2 + [1]
    assert flat("fw", 2, 1, 4) == [1, 2, 3, 4] * 2
    drawn = {tuple(flat("random", 1, 1, 4, (seed, 0))) for seed in range(40)}
    assert len(drawn) > 10 and all(sorted(one) == [1, 2, 3, 4] for one in drawn)


@pytest.mark.parametrize(
    ("name", "alpha", "schedule", "nudge", "net"),
    covering(2, ("dp", "dp_adjoint"), (0.0, 0.7), ("fwbw", "fw", "random"), ("current", "frozen"),
             ("mlp", "both", "residual")),
)  # fmt: skip
def test_keeping_states_changes_no_update(name: str, alpha: float, schedule: str, nudge: str, net: str) -> None:
    """Steps that are not asked for their states may leave out what nothing needs."""
    model, _, x, y = made(net)
    told: dict[str, Any] = {"alpha": alpha, "beta": 0.3, "passes": 7, "schedule": schedule, "nudge": nudge}
    both = []
    for keep in (False, True):
        rule: Any = credit.rule(name, model, precision="float64", **told)
        rule.keep_states = keep
        both.append(rule.updates(x, y))
    for key, update in both[0].updates.items():
        close(update, both[1].updates[key], key)
    assert both[0].states is None and both[1].states is not None


@pytest.mark.parametrize("way", ["eval", "option"])
@pytest.mark.parametrize("variant", ["original", "adjoint", "lpom"])
def test_frozen_statistics_between_states(variant: str, way: str) -> None:
    """BatchNorm with its running statistics is one more linear map, and its scale and shift learn."""
    model = dual_nets.double(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(3, 4, 2, bias=False),
                      nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, nets.CLASSES)), 5, 1.0,
    )  # fmt: skip
    norms = [model[1], model[5]]
    with torch.no_grad():
        for norm in norms:
            norm.running_mean += torch.linspace(-0.2, 0.3, len(norm.weight))
            norm.running_var *= torch.linspace(0.5, 1.5, len(norm.weight))
            norm.weight += 1
    before = {name: value.clone() for name, value in model.named_buffers()}
    net = network_of(model, (2, 5, 5))
    for norm in norms:
        norm.train(way == "option")
    x, y = nets.batch(model, (2, 5, 5), 3)
    for schedule, passes in (("fwbw", 2), ("fw", 3)):
        s = Settings(variant, 1.0, 0.3, "half_sse", schedule, passes)
        check((model, net, x, y), s, batchnorm="frozen" if way == "option" else "refuse")
    assert all(bool(torch.equal(value, before[name])) for name, value in model.named_buffers())


@pytest.mark.parametrize("name", ["dp", "dp_adjoint"])
@pytest.mark.parametrize("net", ["mlp", "both"])
def test_feedback_through_fixed_random_weights(name: str, net: str) -> None:
    model, _, x, y = made(net)
    told: dict[str, Any] = {"alpha": 0.3, "beta": 0.2, "loss": "half_sse", "passes": 2, "pool_first": False}
    rule = credit.rule(name, model, precision="float64", feedback_weights="fixed_random", **told)
    made_ = rule.updates(x, y).updates
    feedback = {key.removeprefix("feedback.").removesuffix(".weight"): value for key, value in rule.buffers.items()}
    assert len(feedback) == 2
    assert isinstance(model, nn.Sequential)
    twin = network_of(model, (7,) if net == "mlp" else dual_nets.IMAGE, feedback)
    s = Settings("original" if name == "dp" else "adjoint", 0.3, 0.2, "half_sse", passes=2)
    for key, update in twins_dual.step(twin, x.numpy(), y.tolist(), s).updates.items():
        close(made_[key], update, key)


POOLED = ("act-max", "both", "later", "quarters")


@pytest.mark.parametrize(
    ("net", "variant", "alpha", "schedule"),
    covering(2, POOLED, ("original", "adjoint"), (0.0, 0.5, 1.0), ("fwbw", "fw", "random")),
)
def test_switches_at_the_positive_state(net: str, variant: str, alpha: float, schedule: str) -> None:
    case = made(net)
    passes = reaching(case[1], schedule, 4)
    check(case, Settings(variant, alpha, 1.0, "half_sse", schedule, passes, switches="plus"))


@pytest.mark.parametrize("net", ["act-max", "later"])
def test_switches_at_the_positive_state_under_lpom_and_with_an_input_state(net: str) -> None:
    case = made(net)
    check(case, Settings("lpom", 1.0, 0.5, "half_sse", "fwbw", 4, switches="plus"))
    check(case, Settings("adjoint", 0.0, 0.5, "half_sse", "fwbw", 3, input_term=True, switches="plus"))


@pytest.mark.parametrize("pool_first", [True, False])
def test_switches_differ_from_the_second_pass_on_and_where_s_plus_is_not_the_value(pool_first: bool) -> None:
    model, _, x, y = made("later", spread=1.2)

    def updates_by(switches: str, alpha: float, passes: int) -> Tensor:
        rule = credit.rule(
            "dp_adjoint", model, precision="float64", alpha=alpha, beta=3.0, loss="half_sse", passes=passes, switches=switches,
            pool_first=pool_first,
        )  # fmt: skip
        return torch.cat([update.flatten() for update in rule.updates(x, y).updates.values()])

    for alpha, passes, same in ((1.0, 5, True), (0.0, 1, True), (0.5, 1, True), (0.0, 5, False), (0.5, 5, False)):
        mean, plus = (updates_by(switches, alpha, passes) for switches in ("mean", "plus"))
        assert torch.allclose(mean, plus, rtol=1e-9, atol=1e-12) == same, (alpha, passes)


def test_switches_without_a_max_pool_would_change_nothing() -> None:
    with pytest.raises(
        UserError, match="rule.switches=plus would change nothing: no max pool of Sequential stands between"
    ):
        credit.rule("dp", made("mlp")[0], precision="float64", switches="plus")
