"""Every rule passes the battery, and the battery catches rules that are wrong."""

from typing import Any

import pytest
import torch

import credit
from credit.cli.check import main as check_main
from credit.core.errors import UserError
from credit.engine.ops.activations import Activate
from credit.engine.ops.base import Run
from credit.engine.ops.weighted import Weighted
from credit.rules import api
from credit.rules.backward.rule import BackwardRule
from credit.rules.state import RuleRun
from credit.testing import battery
from credit.testing.battery import NETS, TRIALS, Case, attempt

QUICK = [trial for trial in TRIALS if trial not in ("compiled", "learns")]


def _case(name: str, net: str, **options: Any) -> Case:
    """The rule on the network; some want to be told what to do with BatchNorm."""
    word = {"lfp": "folded", "dual": "frozen", "equilibrium": "frozen"}.get(str(api.read(name)["kind"]))
    return Case(name, net, options | ({"batchnorm": word} if word and net == "conv+bn" else {}))


def _names() -> list[Any]:
    """The rules, slow where one before is of the same settings, as a kind beside the rule that is it by default."""
    settings = [{key: value for key, value in api.read(name).items() if key != "name"} for name in api.names()]
    return [
        pytest.param(name, marks=pytest.mark.slow) if settings[at] in settings[:at] else name
        for at, name in enumerate(api.names())
    ]


def _few(name: str) -> dict[str, int]:
    """Settings for rules that settle in many passes: as many as it takes to do all that a pass does."""
    told = api.read(name)
    if told["kind"] == "equilibrium":
        return {"free_steps": 6, "nudged_steps": 3}
    return {"passes": 3} if told.get("damped") else {}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", _names())
def test_every_rule_passes_the_quick_trials(name: str, net: str) -> None:
    for trial in QUICK:
        assert attempt(trial, _case(name, net, **_few(name))) == ("pass", ""), trial


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["compiled", "learns"])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", api.names())
def test_every_rule_learns_and_compiles(name: str, net: str, trial: str) -> None:
    assert attempt(trial, _case(name, net)) == ("pass", "")


@pytest.mark.parametrize(
    ("name", "trial"),
    [
        *((name, "compiled") for name in ("lisp_margin", "lfp_epsilon")),
        *((name, "learns") for name in ("lisp_margin", "bp", "brsf")),
    ],
)
def test_some_rules_learn_and_compile(name: str, trial: str) -> None:
    assert attempt(trial, _case(name, "conv+bn")) == ("pass", "")


@pytest.fixture
def broken(registry_as_it_was: None) -> None:
    """Rules with one mistake each, registered for one test."""

    @credit.register_rule("dead_hidden")
    class DeadHidden(BackwardRule):
        def gate(self, op: Activate, run: Run, signal: torch.Tensor) -> torch.Tensor:
            return signal * 0.0

    @credit.register_rule("global_randomness")
    class GlobalRandomness(BackwardRule):
        def backproject(self, op: Weighted, run: RuleRun, signal: torch.Tensor) -> torch.Tensor:
            return super().backproject(op, run, signal) * torch.rand(())

    @credit.register_rule("place_in_batch")
    class PlaceInBatch(BackwardRule):
        def arrive(self, op: Weighted, run: Run, signal: torch.Tensor) -> torch.Tensor:
            return signal * torch.arange(len(signal)).view(-1, *[1] * (signal.dim() - 1))

    @credit.register_rule("wrong_sign")
    class WrongSign(BackwardRule):
        def arrive(self, op: Weighted, run: Run, signal: torch.Tensor) -> torch.Tensor:
            return -signal

    @credit.register_rule("divides_by_signal")
    class DividesBySignal(BackwardRule):
        def arrive(self, op: Weighted, run: Run, signal: torch.Tensor) -> torch.Tensor:
            return signal / signal.abs()


@pytest.mark.parametrize(
    ("name", "trial", "words"),
    [
        ("dead_hidden", "alive", "the update of 0.weight is zero everywhere"),
        ("global_randomness", "seeded", "two runs of one seed"),
        ("place_in_batch", "order", "a permuted batch"),
        ("wrong_sign", "learns", "chance is 0.25"),
        ("divides_by_signal", "finite", "is not finite"),
    ],
)
def test_the_battery_catches_what_is_wrong(name: str, trial: str, words: str, broken: None) -> None:
    outcome, found = attempt(trial, Case(name, "mlp"))
    assert outcome == "fail"
    assert words in found


def test_a_refusal_is_an_answer() -> None:
    outcome, found = attempt("alive", Case("lisp_margin", "mlp", {"margin": -1.0}))
    assert outcome == "refused"
    assert "rule.margin=-1 is outside (0, inf)" in found


def test_the_command_says_what_was_refused_whole_and_how_to_try_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(battery, "TRIALS", {name: battery.TRIALS[name] for name in ("alive", "refuses")})
    assert check_main(["dp"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        "every trial that was run passed",
        "not tried, refused whole: dp on conv+bn; to try it: credit check dp rule.batchnorm=frozen",
    ]
    assert check_main(["dp", "rule.batchnorm=frozen"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "every trial passed" and not any("refused:" in line for line in told)
    with pytest.raises(UserError, match=r"batchnorm=frozen: .* such as rule.batchnorm=frozen"):
        check_main(["dp", "batchnorm=frozen"])
