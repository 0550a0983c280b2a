"""Gates written as plain functions: registered by name, given a generator where they ask for one, checked and refused."""

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError
from credit.core.randomness import generator as stream
from credit.core.user_files import use_folders
from credit.rules import gate
from credit.testing.battery import TRIALS, Case, attempt
from tests.support import nets

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


def through(name: str, x: Tensor, act: nn.Module, seed: int = 5, position: int = 0) -> tuple[Tensor, Tensor]:
    """Return the signal at an activation and behind it; z is x, whose one row has as many numbers as there are classes."""
    n = x.shape[1]
    model = nn.Sequential(nn.Linear(n, n), act, nn.Linear(n, n)).to(x.dtype)
    with torch.no_grad():
        for layer in (0, 2):
            model.get_parameter(f"{layer}.weight").copy_(torch.eye(n))
            model.get_parameter(f"{layer}.bias").zero_()
    rule = credit.rule("bp", model, gate=name, seed=seed)
    rule.position = position
    rule.step(x, torch.tensor([1]))
    before, after = (model.get_parameter(f"{layer}.bias").grad for layer in (2, 0))
    assert before is not None and after is not None
    return before, after


Z = torch.linspace(-3, 3, 13, dtype=torch.float64).unsqueeze(0)


def test_a_function_of_pre_and_post() -> None:
    @gate("soft")
    def soft(pre: Tensor, post: Tensor) -> Tensor:
        return 1 / (1 + pre.abs()) + post.clamp(min=0)

    before, after = through("soft", Z, nn.Tanh())
    torch.testing.assert_close(
        after, before * (1 / (1 + Z.abs()) + Z.tanh().clamp(min=0)).squeeze(0), rtol=1e-12, atol=0
    )
    assert soft(Z, Z.tanh()).shape == Z.shape  # the function stays itself
    with pytest.raises(UserError, match="rule.gate=soff.*did you mean 'soft'"):
        credit.rule("bp", nets.mlp("relu"), gate="soff")


def test_a_mask_and_one_factor_for_all_are_factors_too() -> None:
    gate("mask")(lambda pre, post: pre > 1)
    gate("tenth")(lambda pre, post: torch.full((1,), 0.1, dtype=torch.float32))
    before, after = through("mask", Z, nn.ReLU())
    assert torch.equal(after, before * (Z.squeeze(0) > 1))
    before, after = through("tenth", Z, nn.Sigmoid())
    torch.testing.assert_close(after, before * 0.1, rtol=1e-6, atol=0)
    assert after.dtype == torch.float64


def test_a_generator_is_a_function_of_seed_op_and_position() -> None:
    @gate("spray")
    def spray(pre: Tensor, post: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(pre.shape, generator=generator, dtype=pre.dtype)

    for seed, position in ((5, 0), (5, 7), (6, 0)):
        before, after = through("spray", Z, nn.ReLU(), seed, position)
        drawn = torch.rand(Z.shape, generator=stream(seed, "spray.1", position), dtype=torch.float64)
        torch.testing.assert_close(after, before * drawn.squeeze(0), rtol=1e-12, atol=0)


def test_with_a_generator_a_step_is_neither_compiled_nor_mapped() -> None:
    gate("spray")(lambda pre, post, generator: torch.rand(pre.shape, generator=generator, dtype=pre.dtype))
    words = "rule.gate=spray draws from a generator, .*compiled or mapped"
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    with pytest.raises(UserError, match=words):
        credit.rule("bp", model, gate="spray", compile="aot_eager")
    with pytest.raises(UserError, match=words):
        credit.rule("bp", model, gate="spray").functional(x, y)


@pytest.mark.slow
def test_the_battery_takes_own_gates() -> None:
    gate("spray")(lambda pre, post, generator: torch.rand(pre.shape, generator=generator, dtype=pre.dtype))
    gate("bell")(lambda pre, post: torch.exp(-pre.square()))
    for trial in TRIALS:
        assert attempt(trial, Case("bp", "mlp", {"gate": "bell"}))[0] == "pass", trial
        expected = "refused" if trial in ("compiled", "mapped", "order") else "pass"
        assert attempt(trial, Case("bp", "mlp", {"gate": "spray"}))[0] == expected, trial


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda pre, post: pre, ("rule.gate=mine at activation '1' (relu) returned -3 for z = -3", ".clamp(min=0)")),
        (lambda pre, post: 1 / pre.square(), ("rule.gate=mine", "(relu) returned inf for z = 0", "finite")),
        (lambda pre, post: post / post, ("returned nan for z = -3", "finite")),
        (lambda pre, post: torch.exp(pre.double() * 8), ("returned inf for z = 100", "finite")),
        (lambda pre, post: 20 - pre, ("returned -13.3333 for z = 33.3333",)),
        (lambda pre, post: 0.5, ("returned 0.5, a float", "torch.full_like(pre, 0.5)")),
        (lambda pre, post: pre[:, :3] ** 2, ("returned shape (1, 3)", "broadcast to pre's (1, 13)")),
        (lambda pre, post: (pre**2).unsqueeze(0), ("returned shape (1, 1, 13)", "(1, 13)")),
    ],
)
def test_a_wrong_factor_is_refused_by_gate_op_and_value(function: object, words: tuple[str, ...]) -> None:
    gate("mine")(function)  # type: ignore[type-var]  # the wrong ones too
    with pytest.raises(UserError) as refusal:
        through("mine", Z, nn.ReLU())
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_forward_pass_that_went_wrong_is_not_the_gates_fault(value: float) -> None:
    gate("bell")(lambda pre, post: torch.exp(-pre.square()) + 0 * pre)
    _, after = through("bell", torch.tensor([[value, 1.0, -2.0]]), nn.Tanh())
    assert not after.isfinite().all()  # as of any gate; what went wrong is named by the loop


def test_further_arguments_keep_their_defaults() -> None:
    def wide(pre: Tensor, post: Tensor, beta: float = 2.0, *, power: int = 2) -> Tensor:
        return torch.exp(-(pre.abs() ** power) / beta)

    def spray(pre: Tensor, post: Tensor, generator: torch.Generator | None = None) -> Tensor:
        assert generator is not None
        return torch.rand(pre.shape, generator=generator, dtype=pre.dtype)

    gate("wide")(wide)
    gate("narrow")(functools.partial(wide, beta=0.5))
    gate("spray")(spray)
    for name, beta in (("wide", 2.0), ("narrow", 0.5)):
        before, after = through(name, Z, nn.ReLU())
        torch.testing.assert_close(after, before * torch.exp(-Z.square() / beta).squeeze(0), rtol=1e-12, atol=0)
    before, after = through("spray", Z, nn.ReLU())
    assert len((after / before).unique()) == Z.shape[1]


def test_what_does_not_say_its_arguments_or_needs_more_is_refused() -> None:
    with pytest.raises(UserError, match="sigmoid, which does not say what it takes"):
        gate("built_in")(torch.sigmoid)
    for function in (
        lambda *both: both[0],
        lambda pre, post, generator, more: pre,
        lambda pre, post, *, beta: pre,
    ):
        with pytest.raises(UserError, match=r"a gate takes \(pre, post\) or \(pre, post, generator\)"):
            gate("mine")(function)


def test_other_arguments_taken_names_and_networks_without_activations_are_refused() -> None:
    with pytest.raises(UserError, match=r"@credit.rules.gate\('one'\) on .*\(pre\): a gate takes \(pre, post\) or"):
        gate("one")(lambda pre: pre)
    with pytest.raises(
        UserError, match="gate 'derivative' is already registered, by credit.rules.backward.gates.Derivative"
    ):
        gate("derivative")(lambda pre, post: pre)
    gate("ones")(lambda pre, post: torch.ones_like(pre))
    with pytest.raises(UserError, match="rule.gate=ones would change nothing"):
        credit.rule("bp", nn.Sequential(nn.Linear(3, 2)), gate="ones")


def test_a_function_in_a_users_folder_is_found_by_the_gates_name(tmp_path: Path) -> None:
    (tmp_path / "rule").mkdir()
    (tmp_path / "rule" / "kind_half.py").write_text(
        "import credit\nimport torch\n\n\n"
        "@credit.rules.gate('kind_half')\ndef half(pre, post):\n    return torch.full_like(pre, 0.5)\n"
    )
    use_folders([tmp_path])
    try:
        model = nets.mlp("step")
        x, y = nets.batch(model, (7,))
        own = credit.rule("bp", model, gate="kind_half").updates(x, y).updates
        constant = credit.rule("untied_constant", model, height=0.5).updates(x, y).updates
    finally:
        use_folders([])
    for name, update in constant.items():
        assert torch.equal(own[name], update), name
