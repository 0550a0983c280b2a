"""`trainer.accumulate`: a batch computed in pieces makes the whole batch's step; early stopping by patience."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import credit
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.engine.draws import Share
from credit.runs.folder import run_folder
from credit.runs.metrics import read_metrics
from credit.training import train
from credit.training.backends.pieces import Pieces, shares
from tests.support import nets

RULES = ["bp", "lisp_margin", "lfp_epsilon", "dp", "eqprop", "rec_lra", "dtp", "dfa", "brsf", "jam_full"]


def test_shares_are_the_batch_in_order() -> None:
    assert shares(7, 3) == [Share(0, 3, 7), Share(3, 5, 7), Share(5, 7, 7)]
    assert shares(4, 1) == [Share(0, 4, 4)]


@pytest.mark.parametrize("name", RULES)
def test_pieces_make_the_whole_batchs_step(name: str) -> None:
    model = nets.mlp("tanh")
    model.insert(2, torch.nn.Dropout(0.3))
    x, y = nets.batch(model, (7,), n=11)

    def step(pieces: int) -> tuple[credit.Step, dict[str, Tensor]]:
        rule = credit.rule(name, model, example=x[:2])
        rule.sharing = Pieces(pieces) if pieces > 1 else None
        rule.watch = True
        done = rule.step(x, y)
        updates = {
            key: p.grad for key, p in [*model.named_parameters(), *rule.named_parameters()] if p.grad is not None
        }
        return done, updates

    (whole, expected), (done, found) = step(1), step(3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close((done.logits, done.loss), (whole.logits, whole.loss))
    for key, value in whole.signals.items():
        assert key == "inference.growth" or torch.allclose(done.signals[key], value, rtol=1e-9), (
            key
        )  # each piece has its own


SHORT = ["data=digits", "arch.widths=[12]", "data.limit_train=50", "data.batch_size=16", "trainer.progress=false"]


def test_a_run_in_pieces_ends_as_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    words = ["rule=lisp_margin", "trainer.epochs=2", "trainer.precision=float64", *SHORT]
    cfgs = [compose([*words, f"trainer.accumulate={count}"]) for count in (1, 2)]
    one, two = (train(cfg, console=False) for cfg in cfgs)
    assert run_folder(cfgs[0]) != run_folder(cfgs[1])
    for key, value in one["last"].items():
        assert key == "seconds" or two["last"][key] == pytest.approx(value, rel=1e-9), key


REFUSED = [
    (["rule=bp", "trainer.accumulate=3", "data.drop_last=false", "data.val_fraction=0"], "smallest batch .* has 2 examples"),
    (["rule=lisp_raw", "rule.normalizer=max_abs", "trainer.accumulate=2"], "largest value in the batch .*rule.normalizer=none"),
    (["rule=lfp_epsilon", "rule.normalizer=max_abs", "trainer.accumulate=2"], "'lfp_epsilon' divides error signals"),
    (["rule=jam_full", "rule.match_mean=true", "trainer.accumulate=2"], "rule.gate=jam_full may need the whole batch at once"),
    (["rule=bp", "trainer.patience=3"], "trainer.patience=3 would change nothing: it is read with trainer.stop_when=no_gain"),
    (["rule=bp", "trainer.stop_when=no_gain", "data.val_fraction=0"], "looks at the validation accuracy"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_what_cannot_be_done_is_refused(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    given = {word.partition("=")[0] for word in words}
    with pytest.raises(UserError, match=told):
        train(compose([*words, *(word for word in SHORT if word.partition("=")[0] not in given)]), console=False)
    assert not list(tmp_path.iterdir())


def test_a_run_without_gain_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    words = [
        "rule=bp",
        "trainer.epochs=40",
        "trainer.stop_when=no_gain",
        "trainer.patience=3",
        "optimizer.lr=0.2",
        *SHORT,
    ]
    cfg = compose(words)
    result = train(cfg, console=False)
    rows = read_metrics(run_folder(cfg))
    best = result["best"]
    assert result["stopped"]["why"] == "no gain" and result["stopped"]["best_epoch"] == best["epoch"]
    assert rows[-1]["epoch"] - best["epoch"] == 3 and rows[-1]["epoch"] < 40
    assert all(row["val_top1"] <= best["val_top1"] for row in rows)
