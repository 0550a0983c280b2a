"""What LFP rules refuse, by the words; a feedback function of one's own in a rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import credit
from credit.core import registry
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.rules import feedback
from credit.testing.battery import TRIALS, Case, attempt
from tests.rules.lfp.test_lfp_twins import close, parts_of
from tests.support import nets, twins_lfp
from tests.support.architectures import suc

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


def mlp() -> nn.Module:
    return nets.mlp("relu")


def normed() -> nn.Module:
    return nets.Residual("relu", norm=True)


def called(call: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """Return a maker of two layers with a function between them."""

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(call(self.one(x)))
            return out

    return Called


def single() -> nn.Module:
    return suc((4,), 2)


def norm_first() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.parametrize(
    ("make", "name", "options", "words"),
    [
        (mlp, "lfp_alphabeta", {"beta": 0.5}, ("rule.alpha=2 rule.beta=0.5: alpha - beta must be 1", "rule.alpha=2 rule.beta=1")),
        (mlp, "lfp_alphabeta", {"alpha": 0.5, "beta": -0.5}, ("rule.beta=-0.5 is outside [0, inf)", "alpha - beta must be 1")),
        (mlp, "lfp_epsilon", {"epsilon": 0.0}, ("rule.epsilon=0 is outside (0, inf)", "rule=lfp_0 has none")),
        (mlp, "lfp_zpm", {"epsilon": -1e-6}, ("rule.epsilon=-1e-06 is outside (0, inf)",)),
        (mlp, "lfp_gamma", {"gamma": -0.5}, ("rule.gamma=-0.5 is outside [0, inf)",)),
        # options that nothing reads
        (mlp, "lfp_epsilon", {"gamma": 0.5}, ("rule.gamma=0.5 would change nothing", "it belongs to rule.relevance=gamma")),
        (mlp, "lfp_epsilon", {"alpha": 3.0, "beta": 2.0}, ("rule.alpha=3 would change nothing", "rule.relevance=alphabeta")),
        (mlp, "lfp_epsilon", {"composite": {"first": "gamma"}, "alpha": 1.0}, ("rule.alpha=1 would change nothing",)),
        (mlp, "lfp_zpm", {"reward_sign": False}, ("rule.reward_sign=false would change nothing", "rule.feedback=reward")),
        (mlp, "lfp_epsilon", {"upper_bound": 0.9}, ("would change nothing", "it belongs to rule.feedback=bounded_softmax")),
        # words
        (mlp, "lfp_epsilon", {"relevance": "epsilo"}, ("rule.relevance=epsilo: there is no relevance of this name", "'epsilon'")),
        (mlp, "lfp_epsilon", {"feedback": "sigmod"}, ("rule.feedback=sigmod: there is no feedback of this name", "'sigmoid'")),
        (mlp, "lfp_epsilon", {"feedback": "spiking"}, ("but there are no counts of spikes at the output of Sequential. Write",)),
        (mlp, "lfp_epsilon", {"reduction": "max"}, ("rule.reduction=max", "did you mean 'mean'")),
        (mlp, "lfp_epsilon", {"normalizer": "rms"}, ("rule.normalizer=rms", "auto, max_abs, none")),
        (mlp, "lfp_epsilon", {"dropout": "none"}, ("rule.dropout=none", "gradient, pass")),
        (mlp, "lfp_epsilon", {"signal": "ce"}, ("rule.signal=ce: rule 'lfp_epsilon' has no such option",)),
        (mlp, "bp", {"feedback": "sigmoid"}, ("rule.feedback=sigmoid: rule 'bp' has no such option",)),
        # composites
        (mlp, "lfp_epsilon", {"composite": {"convs": "zpm"}},
         ("rule.composite={convs:zpm}: no layer of Sequential fits 'convs'", "Its 3 layers are 0, 2, 4", "a position from 0 to 2")),
        (mlp, "lfp_epsilon", {"composite": {"4": "zpm"}}, ("rule.composite={4:zpm}: no layer of Sequential fits '4'; valid: first",
                                                           "a position from 0 to 2")),
        (mlp, "lfp_epsilon", {"composite": {"first": "zpn"}}, ("zpn: there is no relevance of this name; did you mean 'zpm'",)),
        (mlp, "lfp_epsilon", {"composite": {"conv": "zpn"}}, ("rule.composite.conv=zpn: there is no relevance of this name",)),
        (mlp, "lfp_epsilon", {"composite": "zpm"}, ("is a word: must be names by name", "such as {conv:zpm}")),
        # networks
        (normed, "lfp_epsilon", {}, ("rule 'lfp_epsilon' on batch_norm 'norm", "in Residual", "rule.batchnorm=folded",
                                     "rule.batchnorm=epsilon", "arch.norm=none")),
        (normed, "lfp_epsilon", {"batchnorm": "fold"}, ("rule.batchnorm=fold", "did you mean 'folded'")),
        (norm_first, "lfp_zpm", {"batchnorm": "folded"}, ("batch_norm '0' in Sequential does not", "rule.batchnorm=epsilon")),
        (called(torch.exp), "lfp_epsilon", {}, ("cannot send feedback through exp 'exp' in Called", "no reading", "rule=bp, fa")),
        (called(lambda x: x.log_softmax(1)), "lfp_epsilon", {}, ("through softmax 'log_softmax' in Called",)),
        (called(lambda x: x.clamp(max=0.5)), "lfp_epsilon", {}, ("through clamp 'clamp' in Called",)),
        (single, "lfp_epsilon", {}, ("but SingleUnit gives one number, the probability of class 1. Use",)),
    ],
)  # fmt: skip
def test_it_is_refused(
    make: Callable[[], nn.Module], name: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as refusal:
        credit.rule(name, make(), **options)
    for word in words:
        assert word in str(refusal.value), str(refusal.value)


def test_targets_of_a_regression_are_refused() -> None:
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    rule = credit.rule("lfp_epsilon", model)
    with pytest.raises(
        UserError, match=r"y must hold one int64 label a sample, shape \(6,\); got torch.float64 \(6,\)"
    ):
        rule.step(x, y.double())
    with pytest.raises(UserError, match=r"label 8 is outside \[0, 5\)"):
        rule.step(x, torch.full_like(y, 8))


def test_what_needs_no_refusal() -> None:
    """Defaults of what nothing reads, selectors that only some networks have, a BatchNorm's reading without one."""
    for options in (
        {"gamma": 0.25},
        {"composite": {"conv": "zpm"}},
        {"batchnorm": "folded"},
        {"composite": {"*": "gamma"}, "gamma": 1.0},
    ):
        credit.rule("lfp_epsilon", nets.mlp("relu"), **options)


# ------------------------------------------------------------ a feedback function of one's own


def shy(logits: Tensor, y: Tensor) -> Tensor:
    return logits.tanh() * (F.one_hot(y, logits.shape[1]) - logits.sigmoid())


def test_an_own_function_is_the_rules_feedback() -> None:
    feedback("shy")(shy)
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    step = credit.rule("lfp_epsilon", model, feedback="shy").step(x, y)
    _, updates, _ = twins_lfp.step(
        parts_of(model, (7,)), x.numpy(), y.numpy(), twins_lfp.Settings(),
        lambda o, labels: shy(torch.from_numpy(o), torch.from_numpy(labels)).numpy(),
    )  # fmt: skip
    for key, update in updates.items():
        close(-torch.from_numpy(nets.gradients(model)[key]), update, key)
    torch.testing.assert_close(step.loss, F.cross_entropy(step.logits, y))


@pytest.mark.parametrize("name", ["lfp_epsilon", "lfp_zpm", "lfp_alphabeta"])
@pytest.mark.parametrize("middle", ["relu", "sigmoid"])
def test_feedback_that_is_not_0_where_a_relu_is_meets_what_the_relu_forgot(name: str, middle: str) -> None:
    """A plain reward at logits that a ReLU made, and a ReLU below another activation that is not 0 at 0."""
    act = nets.ACTIVATIONS[middle]
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), act(), nn.Linear(6, nets.CLASSES), nn.ReLU()).double()
    nets._randomize(model, 3, 1.5)
    x, y = nets.batch(model, (7,))
    step = credit.rule(name, model, feedback="reward", reward_sign=False, clip_unit=None).step(x, y)
    function = registry.find("feedback", "reward").load()(reward_sign=False)
    told = function(step.logits, y)[0]
    assert bool(((told != 0) & (step.logits == 0)).any())
    _, updates, _ = twins_lfp.step(
        parts_of(model, (7,)), x.numpy(), y.numpy(), twins_lfp.Settings(name.removeprefix("lfp_")),
        lambda o, labels: told.numpy(),
    )  # fmt: skip
    for key, update in updates.items():
        close(-torch.from_numpy(nets.gradients(model)[key]), update, key)


@pytest.mark.parametrize("word", ["softmax", "reward", "misclassification", "bounded_softmax"])
def test_every_feedback_reaches_the_weights(word: str) -> None:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,))
    credit.rule("lfp_zpm", model, feedback=word).step(x, y)
    function = registry.find("feedback", word).load()()
    _, updates, _ = twins_lfp.step(
        parts_of(model, (7,)), x.numpy(), y.numpy(), twins_lfp.Settings("zpm"),
        lambda o, labels: function(torch.from_numpy(o), torch.from_numpy(labels))[0].numpy(),
    )  # fmt: skip
    for key, update in updates.items():
        assert update.any()
        close(-torch.from_numpy(nets.gradients(model)[key]), update, key)


def test_the_battery_takes_own_functions() -> None:
    feedback("shy")(shy)
    for trial in TRIALS:
        assert attempt(trial, Case("lfp_epsilon", "mlp", {"feedback": "shy"}))[0] == "pass", trial


def test_a_wrong_own_function_is_refused_in_a_step() -> None:
    feedback("lost")(lambda logits, y: logits / 0)
    model = nets.mlp("relu")
    x, y = nets.batch(model, (7,))
    with pytest.raises(UserError, match="rule.feedback=lost returned -?inf for class 0 of sample 0"):
        credit.rule("lfp_epsilon", model, feedback="lost").step(x, y)


def test_a_function_in_a_users_folder_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "rule").mkdir()
    (tmp_path / "rule" / "kind_half.py").write_text(
        "import credit\n\n\n@credit.rules.feedback('kind_half')\ndef half(logits, y):\n    return 0.5 * logits\n"
    )
    use_folders([tmp_path])
    try:
        model = nets.mlp("relu")
        x, y = nets.batch(model, (7,))
        own = credit.rule("lfp_zpm", model, feedback="kind_half").updates(x, y)
    finally:
        use_folders([])
    assert own.sizes is not None
    torch.testing.assert_close(own.sizes, 0.5 * own.logits.norm(dim=1))
