"""What the untied gates refuse, in words that teach, and what they take."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import credit
from credit.core.errors import UserError
from credit.models import build
from credit.models.activations import activation, names
from tests.support.factors import GATES, INF

# ---------------------------------------------------------------- networks without an activation, and bad input


def test_torchs_identity_is_a_place_holder_and_ours_an_activation() -> None:
    ours = nn.Sequential(nn.Linear(3, 4), activation("identity"), nn.Linear(4, 2))
    torchs = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2))
    credit.rule("jam_full", ours)
    with pytest.raises(
        UserError, match="rule.gate=jam_full would change nothing: it acts at activations, but no error signal"
    ):
        credit.rule("jam_full", torchs)
    torchs.load_state_dict(ours.state_dict())
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    updates = [credit.rule("bp", model).updates(x, y).updates for model in (ours, torchs)]
    assert all(torch.equal(updates[0][name], updates[1][name]) for name in updates[0])
    linear = build({"kind": "lenet5", "variant": "untied", "activation": "identity"}, (1, 28, 28), 10, seed=0)
    rule = credit.rule("untied_rectangle", linear)
    assert [op.name for op in rule.plan.ops if op.kind == "activation"] == ["act1", "act2", "act3", "act4"]


REFUSED: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    ("untied_constant", {"height": -0.5}, "relu", ("rule.height=-0.5 is outside [0, inf)", "factor of the gate")),
    ("untied_rectangle", {"height": INF}, "relu", ("rule.height=inf", "finite")),
    ("untied_triangle", {"height": math.nan}, "relu", ("rule.height=nan", "finite")),
    ("untied_triangle", {"height": -1}, "relu", ("rule.height=-1 is outside [0, inf)",)),
    ("untied_rectangle", {"width": 0}, "relu", ("rule.width=0 is outside (0, inf)", "whole width of the interval")),
    ("untied_rectangle", {"width": -2.0}, "relu", ("rule.width=-2 is outside (0, inf)",)),
    ("jam_rectangle", {"width": 0.0}, "relu", ("rule.width=0 is outside (0, inf)",)),
    ("untied_triangle", {"width": 0}, "relu", ("rule.width=0 is outside (0, inf)",)),
    ("untied_triangle", {"shape": "papr"}, "relu", ("rule.shape=papr", "did you mean 'paper'?")),
    ("untied_triangle", {"shape": "freegrad", "height": 1.0, "width": 2.0}, "relu",
     ("rule.shape=freegrad would change nothing: rule.height=1 rule.width=2",)),
    ("jam_full", {"noise_low": -0.1}, "relu",
     ("rule.noise_low=-0.1 is outside [0, 1)",)),
    ("jam_positive", {"noise_high": 1.5}, "relu", ("rule.noise_high=1.5 is outside (0, 1]",)),
    ("jam_rectangle", {"noise_low": 0.5, "noise_high": 0.5}, "relu",
     ("rule.noise_low=0.5 rule.noise_high=0.5", "low < noise_high")),
    ("jam_full", {"noise_low": 0.8, "noise_high": 0.3}, "relu",
     ("rule.noise_low=0.8 rule.noise_high=0.3", "0 <= noise_low < noise_high <= 1")),
    ("jam_full", {"noise_low": math.nan}, "relu", ("rule.noise_low=nan", "finite")),
    *[(jam, {"low": 0.2, "high": 0.6}, "relu", ("rule.low=0.2: the option is named rule.noise_low now",))
      for jam in ("jam_full", "jam_positive", "jam_rectangle")],
    ("untied_rectangle", {"low": -0.2}, "relu", ("rule.low=-0.2: untied_rectangle", "both ends", "rule.low=-0.2 rule.high=1")),
    ("untied_rectangle", {"low": -0.2, "high": 1.0, "width": 2.0}, "relu", ("rule.width=2: untied_rectangle", "no width")),
    ("untied_rectangle", {"low": 1.0, "high": -1.0}, "relu", ("rule.low=1 rule.high=-1 leaves untied_rectangle no interval",)),
    ("untied_rectangle", {"low": 1.0, "high": 1.0}, "relu", ("low must be below high",)),
    ("untied_triangle", {"low": -1.0}, "relu", ("rule.low=-1 would change nothing", "rule.gate=untied_rectangle")),
    ("bp", {"high": 1.0}, "relu", ("rule.high=1 would change nothing", "rule.gate=untied_rectangle")),
    ("jam_full", {"match_mean": True}, "step", ("cannot take step at '1'", "zero everywhere", "rule.match_mean=false")),
    ("jam_positive", {"match_mean": True}, "sign", ("cannot take sign at '1'", "rule.match_mean=false")),
    ("jam_full", {"height": 2.0}, "relu", ("rule.height=2 would change nothing", "rule.gate=untied_constant")),
    ("untied_constant", {"width": 2.0}, "relu", ("would change nothing", "rule.gate=jam_rectangle")),
    ("untied_rectangle", {"match_mean": True}, "relu", ("would change nothing", "rule.gate=jam_full")),
    ("untied_rectangle", {"shape": "freegrad"}, "relu", ("would change nothing", "rule.gate=untied_triangle")),
    ("untied_constant", {}, "none", ("rule.gate=untied_constant would change nothing", "arch.activation=identity")),
    ("jam_rectangle", {}, "below", ("rule.gate=jam_rectangle would change nothing",)),
    ("jam_full", {"match_mean": True, "loss": "violations", "sparse": True}, "relu",
     ("rule.sparse=true", "rule.gate=jam_full", "not with these options")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "act", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_bad_input_is_refused(name: str, options: dict[str, Any], act: str, words: tuple[str, ...]) -> None:
    linear = [nn.Linear(4, 5), nn.Linear(5, 3)]
    if act == "none":
        model = nn.Sequential(*linear)
    elif act == "below":  # no trainable weight below the activation: no signal is sent there
        model = nn.Sequential(nn.ReLU(), *linear)
    else:
        model = nn.Sequential(linear[0], activation(act), linear[1])
    with pytest.raises(UserError) as refusal:
        credit.rule(name, model, **options)
    for word in words:
        assert word in str(refusal.value)


def test_every_activation_is_taken_by_every_gate() -> None:
    hidden = [layer for act in names() for layer in (nn.Linear(5, 5), activation(act))]
    model = nn.Sequential(*hidden, nn.Linear(5, 3))
    for name, options, _ in GATES.values():
        credit.rule(name, model, **options).step(torch.randn(3, 5), torch.tensor([0, 1, 2]))
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
