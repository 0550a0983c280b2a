"""Figures 5 and A.1 to A.3 of the LFP paper: settings reach the runs, the runner of shattering, pictures by the real command."""

from pathlib import Path
from typing import Any

import pytest

from credit.cli.main import main as credit
from credit.core.config import check
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.tables.expand.jobs import expand
from credit.tables.figures.shapes import five
from credit.tables.measures.measures import measure
from credit.tables.runners import shattering
from credit.tables.spec.claims import claim_rows, claim_tree
from credit.tables.spec.load import load
from credit.training.schedules import learning_rate
from tests.support.published import runs

FIGURES = ("lfp/fig5", "lfp/figA1", "lfp/figA2", "lfp/figA3")


@pytest.mark.parametrize("name", FIGURES)
def test_every_claim_is_about_cells_and_every_budget_has_some(name: str) -> None:
    spec = load(name)
    assert spec.claims and spec.figures and not spec.published  # the figures print no numbers
    for claim in spec.claims:
        claim_tree(spec, claim), claim_rows(spec, claim)
        assert claim.says.split(" - ")[0].startswith(("Section ", "Figure ", "Not in the paper")), claim.says


def test_figure_a1_drops_the_rate_every_40_steps() -> None:
    held = runs("lfp/figA1")
    step, constant = held["step", "plain"], held["constant", "plain"]
    rates = [learning_rate(step.schedule, step.optimizer.lr, at, 124, 124) for at in (0, 39, 40, 80, 120, 123)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.001, 0.001])
    assert constant.schedule.kind == "constant" and constant.data.split_seed is None
    rules = {column: held["step", column].rule for column in ("plain", "signed", "release")}
    assert [rule["feedback"] for rule in rules.values()] == ["reward", "reward", "misclassification"]
    assert [rule["reward_sign"] for rule in rules.values()] == [False, True, True]
    assert {rule["normalizer"] for rule in rules.values()} == {"max_abs"}
    assert (step.arch["widths"], step.optimizer.momentum, step.data.step, step.data.held_out) == (
        [32, 32],
        0.9,
        5e-4,
        100,
    )


def test_figure_a2_counts_hidden_layers_beside_the_first() -> None:
    held = runs("lfp/figA2")
    assert {row: config.arch["depth"] for (row, _), config in held.items() if row.startswith("h")} == {
        f"h{count}": count + 1 for count in (1, 10, 50, 100, 200, 500)
    }
    assert {config.arch["init"] for (row, _), config in held.items() if row.startswith("t")} == {"torch"}
    assert {(config.arch["width"], config.data.step, config.rule["normalizer"]) for config in held.values()} == {
        (200, 0.02, "max_abs")
    }


def test_figure_a3_has_twelve_runs_a_bar() -> None:
    spec = load("lfp/figA3")
    jobs = [job for job in expand(spec, "paper").jobs if (job.row, job.column) == ("h20", "zpm")]
    assert sorted((job.config["arch"]["width"], job.config["seed"]) for job in jobs) == [
        (width, seed) for width in (8, 16, 32, 64) for seed in range(3)
    ]
    config = check(jobs[0].config)
    assert (config.arch["depth"], config.trainer.epochs, config.optimizer.lr) == (20, 5, 1.0)


def test_figure_5_begins_two_columns_with_gradients() -> None:
    held = {column: config for (_, column), config in runs("lfp/fig5").items()}
    warm = {column: (config.trainer.warm_rule, config.trainer.warm_steps) for column, config in held.items()}
    assert warm["warm_epsilon"] == warm["warm_zpm"] == ("bp", 100) and warm["epsilon"] == (None, None)
    assert held["gradient"].rule["normalizer"] == "none" and held["warm_zpm"].rule["normalizer"] == "max_abs"
    assert held["zpm"].trainer.measure[2:] == ["pruning", "pruning_by_layer"] and held["zpm"].data.batch_size == 32


def test_boxes_are_quartiles() -> None:
    assert five([1.0, 2.0, 3.0, 4.0, 5.0]) == (1, 2, 3, 4, 5)
    assert five([0.0, 10.0]) == (0, 2.5, 5, 7.5, 10) and five([7.0]) == (7,) * 5


def test_accuracy_lost_is_best_less_last() -> None:
    rows = [{"test_top1": value} for value in (0.5, 0.9, 0.75)]
    assert measure("accuracy_lost").function({"last": {"test_top1": 0.75}}, lambda: rows, "last") == pytest.approx(15)
    nothing: list[dict[str, Any]] = []
    assert measure("accuracy_lost").function({}, lambda: nothing, "last") is None


def test_a_diagnostics_share_is_a_measure_in_per_cent() -> None:
    rows: list[dict[str, Any]] = [{"signs": {"share": 0.02}}, {"signs": {"share": 0.01}}, {"test_top1": 0.5}]
    found = measure("sign_changes")
    assert found.function({}, lambda: rows, "last") == pytest.approx(1) and found.diagnostic == "signs"
    assert found.by_epoch is not None and found.by_epoch(rows[0]) == 2 and found.by_epoch(rows[2]) is None


def test_numbers_of_figure_5_from_a_row() -> None:
    heights = {"p0": 0.95, "p40": 0.9, "p70": 0.5, "p80": 0.3, "p90": 0.2}
    row = {
        "pruning": {"accuracy": heights, "prunable": 0.6, "prunable_within_1": 0.25},
        "pruning_by_layer": {"accuracy": heights, "prunable": 0.45},
        "magnitudes": {"ratio": 0.5, "start": 0.67},
    }
    wanted = {
        "pruned_accuracy_70": 50,
        "pruned_accuracy_90": 20,
        "pruning_loss_40": 5,
        "pruning_loss_80": 65,
        "pruning_span": 35,
        "prunable_by_layer": 45,
        "parameter_ratio_moved": 0.17,
    }
    for name, number in wanted.items():
        found = measure(name)
        assert found.function({}, lambda: [row, {"epoch": 2}], "last") == pytest.approx(number), name
        assert found.function({}, lambda: [{"epoch": 2}], "last") is None
    risen = {"magnitudes": {"ratio": 0.7, "start": 0.67}}
    assert measure("parameter_ratio_moved").function({}, lambda: [risen], "last") == pytest.approx(0.03)


SHATTERING = ["data=sign_line", "data.step=0.1", "arch=deep_mlp", "arch.width=20", "arch.depth=3"]


def test_the_signal_at_the_input_is_measured_once_a_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    config = compose([*SHATTERING, "rule=lfp_zpm"])
    result = shattering.run(config, {"lags": 3})
    signal = result["signal"]
    assert result["status"] == "complete" and signal["x"][0] == -4 and signal["x"][40] == 0 and len(signal["x"]) == 81
    assert len(signal["value"]) == 81 and signal["max"] == max(map(abs, signal["value"]))
    assert len(signal["autocorrelation"]) == 3 and signal["lag1"] == signal["autocorrelation"][0] > 0.5
    assert measure("signal_correlation").function(result, lambda: [], "last") == signal["lag1"]
    assert shattering.run(config, {"lags": 3}) == result
    at = {
        shattering.folder(compose(["data=sign_line", "arch=deep_mlp", *words]), options)
        for words, options in [
            (["rule=lfp_zpm"], {}),
            (["rule=lfp_zpm"], {"lags": 3}),
            (["rule=lfp_zpm", "seed=1"], {}),
            (["rule=lfp_zpm", "arch.depth=4"], {}),
            (["rule=lfp_zpm", "data.step=0.2"], {}),
            (["rule=bp"], {}),
        ]
    }
    assert len(at) == 6
    assert shattering.folder(compose([*SHATTERING, "rule=bp"]), {}) == shattering.folder(
        compose([*SHATTERING, "rule=bp", "optimizer.lr=3"]), {}
    )


REFUSED = [
    (
        ["data=digits", "rule=bp", "arch=mlp"],
        {},
        "shattering is measured over a grid of 1-D inputs; write data=sign_line",
    ),
    ([*SHATTERING, "rule=bp"], {"lags": 0}, "options.lags=0 is outside [1, inf): number of lags"),
    (
        [*SHATTERING, "rule=bp", "data.normalize=unit"],
        {},
        "data.normalize=unit: the signal is shown over the inputs as",
    ),
    ([*SHATTERING, "rule=lfp_epsilon", "rule.epsilon=0"], {}, "epsilon"),
]


@pytest.mark.parametrize(("words", "options", "said"), REFUSED)
def test_what_has_no_signal_to_show_is_refused(words: list[str], options: dict[str, int], said: str) -> None:
    with pytest.raises(UserError) as caught:
        shattering.refuse(compose(words), options)
    assert said in str(caught.value)


def test_figure_a2_by_the_real_command(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn(own, "figA2", 4)
    assert "4 jobs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figA1", "figA3"])
def test_the_others_by_the_real_command(own: Path, name: str) -> None:
    drawn(own, name, 1)


def drawn(own: Path, name: str, pictures: int) -> None:
    assert credit(["table", f"lfp/{name}", "budget=smoke", "trainer.device=cpu"]) == 0
    folder = own.parent / "runs" / "tables" / f"lfp-{name}-smoke"
    files = sorted(folder.glob("figure*.png"))
    assert [file.name for file in files] == [f"figure{number}.png" for number in range(1, pictures + 1)]
    assert all(file.stat().st_size > 5000 for file in files)
