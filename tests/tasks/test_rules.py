"""Every rule on every task: works as on classes, or refuses in words."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import credit
from credit.core.errors import UserError
from credit.models import build
from credit.rules.api import names


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


RULES = names()
LABELS_ALONE = ("lfp", "lisp", "bp_hinge", "bp_normhinge")
"""Beginnings of the names of rules that compare classes; lisp_ce, of the cross-entropy, is the exception."""


def compares_classes(name: str) -> bool:
    return name.startswith(LABELS_ALONE) and name != "lisp_ce"


def mlp(activation: str = "tanh") -> nn.Module:
    return build({"kind": "mlp", "widths": [8, 7], "activation": activation}, (5,), 3, seed=0).double()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    random = source(3)
    return torch.randn(6, 5, generator=random, dtype=torch.float64), torch.randint(3, (6,), generator=random)


def updates(name: str, model: nn.Module, x, y, **options):
    made = credit.rule(name, model, example=x, precision="float64", **options)
    return made, made.updates(x, y)


@pytest.mark.parametrize("name", [name for name in RULES if not compares_classes(name)])
def test_one_hot_numbers_are_the_squared_error_of_classes(name):
    x, y = batch()
    options = {"loss": "half_sse", **({"normalizer": "none"} if name == "lisp_ce" else {})}
    activation = "relu" if name in ("dp_damped", "lpom") else "tanh"  # for the others their own values must stay
    _, classes = updates(name, mlp(activation), x, y, **options)
    _, numbers = updates(name, mlp(activation), x, F.one_hot(y, 3).double(), task="regression", **options)
    torch.testing.assert_close(numbers.loss, classes.loss)
    for key, value in classes.updates.items():
        torch.testing.assert_close(numbers.updates[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in RULES if compares_classes(name)])
def test_rules_that_compare_classes_refuse_numbers(name):
    with pytest.raises(
        UserError, match="targets of regression are numbers.*(Write rule.loss=|[Uu]se data with class labels)"
    ):
        credit.rule(name, mlp(), task="regression")


def test_a_regression_uses_the_squared_error_unless_told_otherwise():
    x, y = batch()
    target = F.one_hot(y, 3).double()
    for name, loss in (("bp", "mse"), ("dp", "half_sse"), ("rec_lra", "half_sse"), ("tp", "half_sse")):
        _, plain = updates(name, mlp(), x, target, task="regression")
        _, told = updates(name, mlp(), x, target, task="regression", loss=loss)
        assert torch.equal(plain.loss, told.loss)
    for name in ("bp", "dp"):
        with pytest.raises(UserError, match="compares (the )?logits.*Write rule.loss=|compares.*rule.loss=half_sse"):
            credit.rule(name, mlp(), task="regression", loss="ce")


class PerToken(nn.Module):
    """Logits of each position from its token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.fc, self.act = nn.Embedding(7, 6), nn.Linear(6, 8), nn.ReLU()
        self.fc2, self.act2, self.head = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.act2(self.fc2(self.act(self.fc(self.token(x)))))
        return self.head(hidden)


def per_token() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PerToken().double()


@pytest.mark.parametrize(
    "name", ["bp", "fa", "dfa", "usf", "jam_full", "untied_rectangle", "bp_hinge", "lisp_raw", "ste"]
)
def test_positions_that_do_not_meet_are_examples(name):
    """A network of single tokens gets the updates that it gets of as many examples of one class each."""
    x, y = (torch.randint(7, (4, 5), generator=source(at)) for at in (0, 1))
    together, tokens = updates(name, per_token(), x, y, task="tokens", seed=5)
    alone = credit.rule(name, per_token(), precision="float64", seed=5, example=x.flatten())
    for key, value in together.buffers.items():
        assert alone.buffers[key].shape == value.shape
        alone.buffers[key] = value
    single = alone.updates(x.flatten(), y.flatten())
    torch.testing.assert_close(tokens.loss, single.loss)
    for key, value in single.updates.items():
        torch.testing.assert_close(tokens.updates[key], value, rtol=1e-12, atol=1e-12)


def test_lfp_on_positions_is_the_mean_over_them():
    x, y = torch.randn(4, 5, 6, generator=source(0), dtype=torch.float64), torch.randint(7, (4, 5), generator=source(1))
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7)).double()
    _, tokens = updates("lfp_epsilon", model, x, y, task="tokens")
    _, single = updates("lfp_epsilon", model, x.flatten(0, 1), y.flatten())
    for key, value in single.updates.items():
        torch.testing.assert_close(tokens.updates[key], value, rtol=1e-12, atol=1e-12)


def test_backprop_of_a_gpt_equals_autograd():
    x, y = (torch.randint(11, (3, 9), generator=source(at)) for at in (0, 1))
    model = build({"kind": "gpt", "width": 12, "heads": 3}, (9,), 11, seed=0).double()
    _, done = updates("bp", model, x, y, task="tokens")
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(done.loss, loss.detach())
    for (key, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(done.updates[key], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_recurrent_network_is_torchs_and_backprop_equals_autograd(cell):
    x, y = (torch.randint(11, (3, 6), generator=source(at)) for at in (0, 1))
    model = build({"kind": "rnn", "cell": cell, "width": 5, "layers": 2}, (6,), 11, seed=0).double()
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](5, 5, 2, batch_first=True).double()
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            own = f"layers.{name[-1]}.{'input' if '_ih_' in name else 'state'}.{name.split('_')[0]}"
            p.copy_(dict(model.named_parameters()).get(own, torch.zeros_like(p)))
        states = theirs(model.get_submodule("token")(x))[0]
        torch.testing.assert_close(model(x), model.get_submodule("head")(states))
    _, done = updates("bp", model, x, y, task="tokens")
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for (key, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(done.updates[key], gradient, rtol=1e-9, atol=1e-12)


def test_direct_feedback_of_a_recurrent_network_is_as_wide_as_it_has_positions():
    """A state (B, width) is no sequence of positions, also where width and number of positions are equal."""
    x, y = (torch.randint(7, (3, 6), generator=source(at)) for at in (0, 1))
    for width in (5, 6):
        rule, done = updates(
            "dfa", build({"kind": "rnn", "width": width}, (6,), 7, seed=0).double(), x, y, task="tokens"
        )
        feedback = {name: value.shape for name, value in rule.buffers.items() if ".state" in name}
        assert feedback and set(feedback.values()) == {(6 * 7, width)}
        assert rule.buffers["feedback.head"].shape == (7, width) and all(
            bool(u.isfinite().all()) for u in done.updates.values()
        )


def test_no_position_of_a_gpt_sees_those_after_it():
    model = build({"kind": "gpt", "width": 12, "heads": 3}, (9,), 11, seed=0).eval()
    x = torch.randint(11, (1, 9), generator=source(0))
    other = x.clone()
    other[0, 6:] = (other[0, 6:] + 1) % 11
    one, two = model(x), model(other)
    assert torch.equal(one[:, :6], two[:, :6]) and not torch.allclose(one[:, 6:], two[:, 6:])


@pytest.mark.parametrize("channels", [[], [3, 5]])
def test_an_autoencoder_by_backprop_equals_autograd(channels):
    shape = (2, 7, 9)
    arch = {"kind": "autoencoder", "channels": channels, "widths": [10, 4], "activation": "tanh"}
    model = build(arch, shape, 126, seed=0).double()
    x = torch.randn(4, *shape, generator=source(0), dtype=torch.float64)
    assert model(x).shape == ((4, 126) if not channels else (4, *shape))
    _, done = updates("bp", model, x, x, task="reconstruction")
    loss = F.mse_loss(model(x).flatten(1), x.flatten(1))
    for (key, _), gradient in zip(
        model.named_parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(done.updates[key], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["fa", "dfa", "dp", "rec_lra", "lisp_ce"])
def test_an_autoencoder_learns_by_other_rules(name):
    model = build({"kind": "autoencoder", "widths": [12, 4], "activation": "tanh"}, (8,), 8, seed=0)
    x = torch.randn(64, 3, generator=source(0)) @ torch.randn(3, 8, generator=source(1))
    rule = credit.rule(name, model, task="reconstruction", example=x)
    optimizer = torch.optim.Adam([*model.parameters(), *rule.parameters()], lr=1e-2)
    first = float(rule.step(x, x).loss)
    for _ in range(150):
        rule.step(x, x)
        optimizer.step()
    assert float(rule.step(x, x).loss) < 0.6 * first
