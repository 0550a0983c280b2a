"""What cannot work is refused by words that teach: what was given, why it cannot work, what to write instead."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import credit
from credit.core.errors import UserError


def small(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).to(dtype)


REFUSED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    # names and choices
    ("lisp_margn", {}, ("rule=lisp_margn", "did you mean 'lisp_margin'?", "usf")),
    ("", {}, ("rule=: there is no rule of this name", "valid: bp, bp_hinge")),
    ("lisp_margin", {"margn": 1}, ("rule.margn", "'lisp_margin' has no such option", "did you mean 'margin'?")),
    ("bp", {"gate": "responsiv"}, ("rule.gate=responsiv", "did you mean 'responsive'?")),
    ("bp", {"loss": "crossentropy"}, ("rule.loss=crossentropy", "ce, ce_rate, half_sse, mse, violations, worst_violation")),
    ("bp", {"feedback_weights": "transposed"}, ("rule.feedback_weights=transposed", "did you mean 'transpose'?")),
    ("bp", {"normalizer": "rmsnorm"}, ("rule.normalizer=rmsnorm", "did you mean 'rms'?")),
    ("ste", {"ste_window": "clip"}, ("rule.ste_window=clip", "did you mean 'clipped'?")),
    ("dfa", {"dfa_map": "channel"}, ("rule.dfa_map=channel", "did you mean 'channels'?")),
    # types
    ("bp", {"gate": 3}, ("rule.gate=3", "there is no gate of this name", "derivative")),
    ("bp", {"gate": None}, ("rule.gate=null", "is null: must be a word")),
    ("dp", {"alpha": None}, ("rule.alpha=null", "is null: must be a number or a list of numbers")),
    ("dp", {"alpha": [0, 0.5, "a"]}, ("rule.alpha=[0,0.5,a]", "has 'a' as item 3, which is no number: must", "list of numbers")),
    ("dp", {"beta": [0.1, math.nan]}, ("rule.beta=nan", "finite number in (0, inf)")),
    ("lisp", {"margin": "big"}, ("rule.margin=big of rule 'lisp' is a word", "must be a number", "rule.margin=1")),
    ("lisp", {"margin": True}, ("rule.margin=true", "is true or false: must be a number")),
    ("lisp", {"override": "yes"}, ("rule.override=yes", "is a word: must be true or false", "rule.override=true")),
    ("bp", {"clip": "0.1"}, ("rule.clip=0.1", "is a word: must be a number or null")),
    ("bp", {"local_autograd": 1}, ("rule.local_autograd=1", "is a number: must be true or false")),
    # numbers
    ("lisp", {"margin": math.nan}, ("rule.margin=nan", "finite", "in (0, inf)")),
    ("lisp_margin", {"margin": math.inf}, ("rule.margin=inf", "finite")),
    ("bp", {"reproject": math.inf}, ("rule.reproject=inf", "finite")),
    ("lisp", {"margin": 0}, ("rule.margin=0 is outside (0, inf)", "margin m of the violations")),
    ("bp_hinge", {"margin": -1.0}, ("rule.margin=-1 is outside (0, inf)",)),
    ("bp", {"label_smoothing": 1.0}, ("rule.label_smoothing=1 is outside [0, 1)", "share")),
    ("lisp", {"signal_dropout": 1.0}, ("rule.signal_dropout=1 is outside [0, 1)", "share")),
    ("lisp", {"signal_dropout": -0.1}, ("rule.signal_dropout=-0.1 is outside [0, 1)",)),
    ("lisp", {"gate": "inverse", "inverse_scale": 0}, ("rule.inverse_scale=0 is outside (0, inf)",)),
    ("lisp", {"gate": "inverse", "inverse_clamp": 0.5}, ("rule.inverse_clamp=0.5 is outside (0, 0.5)",)),
    ("bp", {"clip": 0.0}, ("rule.clip=0 is outside (0, inf)", "null: off")),
    ("bp", {"reproject": -1}, ("rule.reproject=-1 is outside (0, inf)", "null: off")),
    # options that no chosen component reads
    ("bp", {"margin": 2.0}, ("rule.margin=2 would change nothing", "rule.loss=violations")),
    ("lisp_margin", {"label_smoothing": 0.1}, ("rule.label_smoothing=0.1 would change nothing", "rule.loss=ce")),
    ("bp", {"override": False}, ("rule.override=false would change nothing", "rule.gate=responsive")),
    ("lisp", {"inverse_scale": 0.5}, ("rule.inverse_scale=0.5 would change nothing", "rule.gate=inverse")),
    ("fa", {"dfa_map": "channels"}, ("rule.dfa_map=channels would change nothing", "rule.feedback_weights=direct")),
    ("bp", {"ste_window": "clipped"}, ("would change nothing", "rule.gate=straight_through")),
    # options under their earlier names
    ("bp", {"signal": "ce"}, ("rule.signal=ce: the option is named rule.loss now",)),
    ("dp", {"transport": "sign"}, ("rule.transport=sign: the option is named rule.feedback_weights now",)),
    ("eqprop", {"ceiling": 2.0}, ("rule.ceiling=2: the option is named rule.activation_bound now",)),
    ("eqprop", {"begin": "forward"}, ("the option is named rule.initial_state now",)),
    ("eqprop", {"clamped": True}, ("rule.clamped=true: the option is named rule.clamp_output now",)),
    ("rec_lra", {"wiring": {"1": "output"}}, ("the option is named rule.error_connectivity now",)),
    ("bp", {"fgsm_epsilon": 0.05}, ("rule.fgsm_epsilon=0.05: examples are moved by", "trainer.adversarial_epsilon=0.05")),
    ("bp_fgsm", {}, ("rule=bp_fgsm: examples are moved by the trainer", "rule=bp trainer.adversarial_epsilon=0.01")),
    ("bp", {"precision": "fp16"}, ("precision=fp16", "did you mean 'bf16'?")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_rule_is_refused(name: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule(name, small(), **options)
    for word in words:
        assert word in str(refusal.value)


def test_an_unread_option_may_stand_at_its_default() -> None:
    credit.rule("bp", small(), margin=1.0, override=True, inverse_scale=1, dfa_map="dense")


X, Y = torch.ones(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
BATCHES: list[tuple[Tensor, Tensor, tuple[str, ...]]] = [
    ((X * 10).long(), Y, ("x is torch.int64", "x.float() / 255")),
    (X, Y.float(), ("one int64 label a sample, shape (6,)", "got torch.float32 (6,)")),
    (X, Y.int(), ("one int64 label a sample", "torch.int32")),
    (X, torch.eye(3)[Y], ("one int64 label a sample", "torch.float32 (6, 3)")),
    (X, Y.unsqueeze(1), ("one int64 label a sample", "(6, 1)")),
    (X, Y[:3], ("shape (6,)", "got torch.int64 (3,)")),
    (X, Y[:1], ("shape (6,)", "got torch.int64 (1,)")),
    (X.double(), Y, ("x is torch.float64", "parameters are torch.float32", "convert one")),
]


@pytest.mark.parametrize("when", ["first", "second", "prepared"])
@pytest.mark.parametrize(("x", "y", "words"), BATCHES, ids=lambda value: "")
def test_batch_is_refused(x: Tensor, y: Tensor, words: tuple[str, ...], when: str) -> None:
    """At any step, not only the first: a label too few would otherwise be a wrong update without a word."""
    model = small()
    rule = credit.rule("lisp_ce", model, example=X if when == "prepared" else None)
    if when == "second":
        rule.step(X, Y)
    with pytest.raises(UserError) as refusal:
        rule.step(x, y)
    for word in words:
        assert word in str(refusal.value)


def test_float64_needs_a_float64_model() -> None:
    with pytest.raises(
        UserError, match=r"precision=float64: .* torch.float32; convert the model first, model.double\(\)"
    ):
        credit.rule("bp", small(), precision="float64").step(X, Y)
    model = small(torch.float64)
    credit.rule("bp", model, precision="float64").step(X.double(), Y)
    assert all(p.grad is not None and p.grad.dtype == torch.float64 for p in model.parameters())


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class TwoOutputs(Unused):
    def forward(self, x: Tensor) -> Any:
        return self.used(x), self.spare(x)


class Branching(Unused):
    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) if x.sum() > 0 else self.spare(x)


@pytest.mark.parametrize("name", ["dp", "dp_adjoint", "lpom", "eqprop", "chl", "rec_lra", "lra_e", "dtp", "tp"])
def test_a_squared_error_that_is_half_a_sum_is_not_called_mse(name: str) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule(name, small(), loss="mse")
    for word in ("rule.loss=mse: half the sum over outputs", "is rule.loss=half_sse", "mse is the mean over outputs"):
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unused(), ("Unused: 2 trainable parameter(s) take no part", "spare.weight", "requires_grad_(False)")),
        (TwoOutputs(), ("TwoOutputs.forward returns tuple", "one tensor of logits")),
        (Branching(), ("Branching cannot be traced", "test_refusals.py, line", "if x.sum() > 0")),
        (small().requires_grad_(False), ("has no trainable parameter", "requires_grad")),
    ],
    ids=["unused", "two outputs", "branching", "frozen"],
)
def test_model_is_refused(model: nn.Module, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule("bp", model)
    for word in words:
        assert word in str(refusal.value)
