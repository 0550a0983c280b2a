"""Several runs as one table."""

import statistics

import pytest
from rich.console import Console

from credit.config import check
from credit.records import group_name, summarise, summary_table


def result(rule: str, seed: int, accuracy: float | None, *, rate: float = 0.0, lr: float = 0.05, **more) -> dict:
    cfg = check(
        {
            "rule": {"kind": "sweep", "name": rule, "gate": rule},
            "arch": {"kind": "mlp"},
            "noise": rate,
            "optimizer": {"lr": lr},
            "trainer": {"epochs": 1},
            "seed": seed,
        }
    )
    row = None if accuracy is None else {"test_top1": accuracy, "val_top1": accuracy, "memorised": rate / 2 or None}
    status = "complete" if accuracy is not None else "diverged"
    ends = {"best": row, "last": row, "seconds_per_epoch": 2.0}
    return {"group": group_name(cfg), "config": cfg.as_dict(), "status": status, **ends, **more}


def test_seeds_become_mean_and_spread():
    accuracies = [0.90, 0.94, 0.95]
    results = [result("bp", seed, accuracy) for seed, accuracy in enumerate(accuracies)]
    results += [result("fa", 0, 0.5)]
    bp, fa = summarise(results)
    assert bp["best.test_top1"] == {
        "mean": pytest.approx(statistics.fmean(accuracies)),
        "std": pytest.approx(statistics.stdev(accuracies)),
        "n": 3,
    }
    assert bp["seeds"] == [0, 1, 2] and bp["runs"] == 3
    assert fa["best.test_top1"] == {"mean": 0.5, "std": None, "n": 1}


def test_a_run_that_was_given_up_counts_and_is_told():
    [row] = summarise([result("bp", 0, 0.9), result("bp", 1, 0.7, stopped={"why": "collapsed"})])
    assert row["status"] == {"complete": 1, "given up": 1} and row["best.test_top1"]["n"] == 2


def test_a_diverged_run_counts_as_a_run_and_not_as_an_accuracy():
    [row] = summarise([result("bp", 0, 0.9), result("bp", 1, None)])
    assert row["status"] == {"complete": 1, "diverged": 1}
    assert row["runs"] == 2 and row["best.test_top1"]["n"] == 1
    [row] = summarise([result("bp", 0, 0.9), result("bp", 1, 0.1) | {"status": "diverged"}])  # after an evaluation
    assert row["best.test_top1"] == {"mean": 0.9, "std": None, "n": 1}


def test_options_that_decide_nothing_tell_no_rows_apart():
    first, second = result("bp", 0, 0.9, lr=0.1), result("bp", 0, 0.9, lr=0.01)
    second["config"]["trainer"]["threads"] = 1  # run in parallel with others, the first one alone
    assert all(row["settings"].keys() == {"rule", "noise", "optimizer.lr"} for row in summarise([first, second]))


def test_rows_are_told_apart_by_what_differs():
    rows = summarise([result(rule, 0, 0.9, rate=rate) for rule in ("bp", "fa") for rate in (0.0, 0.4)])
    assert [row["settings"] for row in rows] == [
        {"rule": rule, "noise": noise} for rule in ("bp", "fa") for noise in ("clean", "symmetric0.4")
    ]
    rows = summarise([result("bp", 0, 0.9, lr=lr) for lr in (0.1, 0.01)])
    assert [row["settings"] for row in rows] == [
        {"rule": "bp", "noise": "clean", "optimizer.lr": lr} for lr in ("0.1", "0.01")
    ]


def test_the_table_shows_it():
    results = [result("bp", 0, 0.9, rate=0.4), result("bp", 1, 0.8, rate=0.4), result("fa", 0, None, rate=0.4)]
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the console
    with console.file:
        console.print(summary_table(summarise(results), "a title"))
        shown = console.export_text()
    assert "a title" in shown
    assert "85.00 ± 7.07 %" in shown and "wrong labels learnt" in shown and "20.00 ± 0.00 %" in shown
    assert "1 (1 diverged)" in shown


def test_nothing_gives_an_empty_table():
    assert summarise([]) == []
    assert summary_table([]).row_count == 0
