"""A user's own rule or component, reached by name without a change to the package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import credit
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.rules.backward.feedback_weights import FixedRandom
from credit.rules.backward.options import BackwardOptions
from credit.rules.base import Computed
from tests.support import nets, twins
from tests.support.recipes import assert_equal, dense_twin

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


def test_a_gate_of_ones_own_with_an_option_of_its_own() -> None:
    @credit.register("gate", "damped")
    @dataclass(frozen=True)
    class Damped:
        """The signal times a constant."""

        damping: float = 0.5

        def keeps(self, op: Activate) -> set[str]:
            return set()

        def refusal(self, op: Activate) -> str | None:
            return "it is the identity" if op.args["name"] == "identity" else None

        def __call__(self, op: Activate, run: Run, signal: Tensor) -> Tensor:
            return signal * self.damping

    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    for damping in (0.5, 0.25):
        options: dict[str, Any] = {} if damping == 0.5 else {"damping": damping}
        credit.rule("bp", model, gate="damped", **options).step(x, y)

        def gate(name: str, z: twins.Array, d: twins.Array, damping: float = damping) -> twins.Array:
            return d * damping

        assert_equal(nets.gradients(model), dense_twin(model, "tanh", x, y, (twins.cross_entropy, gate, False)))
    with pytest.raises(UserError, match=r"rule.damping=0.3 would change nothing.*rule.gate=damped"):
        credit.rule("bp", model, damping=0.3)
    with pytest.raises(UserError, match=r"did you mean 'damping'"):
        credit.rule("bp", model, gate="damped", dampin=0.3)
    with pytest.raises(UserError, match=r"rule.gate=dampd.*did you mean 'damped'"):
        credit.rule("bp", model, gate="dampd")
    with pytest.raises(UserError, match="cannot take gelu at '1'.*Write rule.gate=.*damped"):
        credit.rule("lisp", torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU(), torch.nn.Linear(2, 2)))


def test_a_signal_and_a_normalizer_of_ones_own() -> None:
    @credit.register("loss", "squares")
    class Squares:
        """Half the squared distance to the one-hot label, the mean over samples."""

        def __call__(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            miss = z - torch.nn.functional.one_hot(y, z.shape[1]).to(z)
            return miss / len(y), 0.5 * miss.square().sum() / len(y)

    @credit.register("normalizer", "halved")
    class Halved:
        def __call__(self, op: Any, run: Run, signal: Tensor) -> Tensor:
            return signal / 2

    def squares(z: twins.Array, y: int) -> twins.Array:
        return np.eye(len(z))[y] - z

    model = nets.mlp("sigmoid")
    x, y = nets.batch(model, (7,))
    credit.rule("bp", model, loss="squares").step(x, y)
    assert_equal(nets.gradients(model), dense_twin(model, "sigmoid", x, y, (squares, twins.derivative, False)))
    top = nets.gradients(model)["4.weight"]
    credit.rule("bp", model, loss="squares", normalizer="halved").step(x, y)
    np.testing.assert_allclose(nets.gradients(model)["4.weight"], top / 2, rtol=1e-12)


def test_a_subclass_of_the_sweep_reached_by_its_name() -> None:
    @credit.register_rule("top_only")
    class TopOnly(credit.BackwardRule):
        """Backprop whose signal stops at the first crossing."""

        def backproject(self, op: Any, run: Run, signal: Tensor) -> Tensor:
            return torch.zeros(op.input_shape(run), dtype=signal.dtype)

    listing: Any = credit.rules  # also the package of that name, which is how mypy sees it
    assert "top_only" in listing()
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("top_only", model, label_smoothing=0.1)
    assert isinstance(rule, TopOnly) and rule.name == "top_only"
    rule.step(x, y)
    found = nets.gradients(model)
    assert (found["0.weight"] == 0).all() and (found["2.weight"] == 0).all()
    credit.rule("bp", model, label_smoothing=0.1).step(x, y)
    np.testing.assert_array_equal(found["4.weight"], nets.gradients(model)["4.weight"])
    with pytest.raises(UserError, match=r"rule=top_onl: .*did you mean 'top_only'"):
        credit.rule("top_onl", model)
    for base in (credit.BackwardRule, FixedRandom):
        with pytest.raises(UserError, match=r"Own.cross: .* is called backproject"):
            type("Own", (base,), {"cross": lambda self, op, run, signal: signal})


def test_a_rule_that_is_no_sweep_writes_compute_alone() -> None:
    @credit.register_rule("noise")
    class Noise(credit.Rule):
        """Random updates: what every rule should beat."""

        @dataclass(frozen=True)
        class Options(credit.RuleOptions):
            size: float = credit.opt(0.5, "standard deviation of the updates", gt=0)

        options: Options

        def compute(self, params: Any, buffers: Any, x: Tensor, y: Tensor, draws: Any) -> Computed:
            logits = self.plan.forward(self.plan.run(dict(params), dict(buffers), draws), x)
            updates = {
                name: self.options.size * draws.get(f"noise.{name}", "normal", tuple(params[name].shape), x.dtype)
                for name in self.plan.trainable
            }
            return Computed(logits, logits.new_zeros(()), updates)

    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("noise", model, size=2.0, seed=3, reproject=1e-3)
    step = rule.step(x, y)
    with torch.no_grad():
        torch.testing.assert_close(step.logits, model(x))
    first = nets.gradients(model)
    assert all(np.linalg.norm(update) == pytest.approx(1e-3) for update in first.values())
    rule.step(x, y)
    assert not np.allclose(first["0.weight"], nets.gradients(model)["0.weight"])
    rule.position = 0
    rule.step(x, y)
    np.testing.assert_array_equal(first["0.weight"], nets.gradients(model)["0.weight"])
    with pytest.raises(UserError, match="'noise' has no such option; did you mean 'size'"):
        credit.rule("noise", model, sise=1.0)


def test_a_taken_name_and_an_unknown_family_are_refused() -> None:
    with pytest.raises(
        UserError, match="gate 'derivative' is already registered, by credit.rules.backward.gates.Derivative"
    ):
        credit.register("gate", "derivative")(type("Mine", (), {}))
    with pytest.raises(UserError, match=r"register\('gates', 'mine'\): .*did you mean 'gate'"):
        credit.register("gates", "mine")


def test_a_gate_in_a_users_folder_is_found_by_its_rules_name(tmp_path: Path) -> None:
    (tmp_path / "rule").mkdir()
    (tmp_path / "rule" / "half.yaml").write_text("# half\ndefaults: [sweep, _self_]\nname: half\ngate: halved\n")
    (tmp_path / "rule" / "half.py").write_text(
        "import credit\nfrom credit.rules.backward.gates import Derivative\n\n\n"
        "@credit.register('gate', 'halved')\nclass Halved(Derivative):\n"
        "    def __call__(self, op, run, signal):\n        return 0.5 * super().__call__(op, run, signal)\n"
    )
    use_folders([tmp_path])
    try:
        assert "half" in credit.rules()
        model = nets.mlp("relu")
        x, y = nets.batch(model, (7,))
        credit.rule("half", model).step(x, y)
        halved = nets.gradients(model)
        credit.rule("bp", model).step(x, y)
        whole = nets.gradients(model)
    finally:
        use_folders([])
    depth = {"weight": 0, "bias": 0}
    for name in reversed(list(whole)):
        role = name.rpartition(".")[2]
        np.testing.assert_allclose(halved[name], whole[name] * 0.5 ** depth[role], rtol=1e-12)
        depth[role] += 1


def test_use_takes_a_folder_or_a_module_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = "import credit\nimport torch\n\n\n@credit.rules.gate('{0}')\ndef {0}(pre, post):\n    return torch.full_like(pre, 0.5)\n"
    (tmp_path / "mine" / "gate").mkdir(parents=True)
    (tmp_path / "mine" / "gate" / "in_a_folder.py").write_text(gate.format("in_a_folder"))
    (tmp_path / "module_of_gates.py").write_text(gate.format("in_a_module"))
    (tmp_path / "module_that_fails.py").write_text("import not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = nets.mlp("relu")
    try:
        credit.use(str(tmp_path / "mine"))
        credit.use("module_of_gates")
        for name in ("in_a_folder", "in_a_module"):
            credit.rule("bp", model, gate=name)
        with pytest.raises(
            UserError, match=r"credit.use\('nothing'\): there is neither a folder nor a module of this name"
        ):
            credit.use("nothing")
        with pytest.raises(ModuleNotFoundError, match="not_there"):
            credit.use("module_that_fails")
    finally:
        use_folders([])


def test_ranges_and_conditions_of_an_own_rules_options_are_checked() -> None:
    @credit.register_rule("scaled")
    class Scaled(credit.BackwardRule):
        """Backprop times a number."""

        @dataclass(frozen=True)
        class Options(BackwardOptions):
            scaled: bool = credit.opt(False, "multiply the error signal")
            scale: float = credit.opt(1.0, "factor on the error signal", gt=0, when="scaled", was="factor")

    cases: list[tuple[dict[str, Any], str]] = [
        ({"scaled": True, "scale": -1.0}, r"rule.scale=-1 is outside \(0, inf\): factor on the error signal"),
        ({"scale": 2.0}, "rule.scale=2 would change nothing: it is read with rule.scaled=true alone"),
        ({"scaled": True, "factor": 2.0}, "rule.factor=2: the option is named rule.scale now"),
        ({"margin": 2.0}, "rule.margin=2 would change nothing"),
    ]
    for options, words in cases:
        with pytest.raises(UserError, match=words):
            credit.rule("scaled", nets.mlp("relu"), **options)
    rule = credit.rule("scaled", nets.mlp("relu"), scaled=True, scale=2)
    assert isinstance(rule.options, Scaled.Options) and rule.options.scale == 2.0 and rule.options.loss == "auto"


def test_the_earlier_name_of_the_base_class_is_refused_with_the_new_one() -> None:
    with pytest.raises(AttributeError, match="named credit.BackwardRule now"):
        _ = credit.SweepRule
