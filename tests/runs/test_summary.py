"""Several runs as one table."""

import io
import statistics

import pytest
from rich.console import Console

from credit.core.config import check
from credit.runs import group_name, summarise, summary_table


def result(
    rule: str,
    seed: int,
    accuracy: float | None,
    *,
    rate: float = 0.0,
    lr: float = 0.05,
    val: float | None = None,
    **more,
) -> dict:
    cfg = check(
        {
            "rule": {"kind": "sweep", "name": rule},
            "arch": {"kind": "mlp"},
            "noise": rate,
            "optimizer": {"lr": lr},
            "trainer": {"epochs": 1},
            "seed": seed,
        }
    )
    row = (
        None
        if accuracy is None
        else {"test_top1": accuracy, "val_top1": val or accuracy, "memorized": rate / 2 or None}
    )
    status = "complete" if accuracy is not None else "diverged"
    ends = {"best": row, "last": row, "selected_by": "val_top1", "seconds": 2.0, "seconds_per_epoch": 2.0}
    return {"group": group_name(cfg), "config": cfg.as_dict(), "status": status, **ends, **more}


def test_seeds_become_mean_and_spread():
    accuracies = [0.90, 0.94, 0.95]
    results = [result("bp", seed, accuracy) for seed, accuracy in enumerate(accuracies)]
    results += [result("fa", 0, 0.5)]
    bp, fa = summarise(results)
    assert bp["best.test"] == {
        "mean": pytest.approx(statistics.fmean(accuracies)),
        "std": pytest.approx(statistics.stdev(accuracies)),
        "n": 3,
    }
    assert bp["seeds"] == [0, 1, 2] and bp["runs"] == 3
    assert fa["best.test"] == {"mean": 0.5, "std": None, "n": 1}


def test_a_run_that_was_given_up_counts_and_is_told():
    [row] = summarise([result("bp", 0, 0.9), result("bp", 1, 0.7, stopped={"why": "collapsed"})])
    assert row["status"] == {"complete": 1, "given up": 1} and row["best.test"]["n"] == 2


def test_a_diverged_run_counts_as_a_run_and_not_as_an_accuracy():
    [row] = summarise([result("bp", 0, 0.9), result("bp", 1, None)])
    assert row["status"] == {"complete": 1, "diverged": 1}
    assert row["runs"] == 2 and row["best.test"]["n"] == 1
    [row] = summarise([result("bp", 0, 0.9), result("bp", 1, 0.1) | {"status": "diverged"}])  # after an evaluation
    assert row["best.test"] == {"mean": 0.9, "std": None, "n": 1}


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


def shown(results: list[dict], width: int | None = None, title: str = "") -> str:
    """Return what a sweep prints of its results, on lines of any length where no width is given."""
    console = Console(width=width or 200, record=True, file=io.StringIO())
    table, lines = summary_table(summarise(results), title, width)
    console.print(table)
    for line in lines:
        console.print(line, markup=False)
    return console.export_text()


def test_the_table_shows_it():
    results = [result("bp", 0, 0.9, rate=0.4), result("bp", 1, 0.8, rate=0.4), result("fa", 0, None, rate=0.4)]
    text = shown(results, title="a title")
    assert "a title" in text
    assert "85.00 ± 7.07 %" in text and "wrong labels" in text and "20.00 ± 0.00 %" in text
    assert "1 (1 diverged)" in text and "s/epoch" in text


def test_nothing_gives_an_empty_table():
    assert summarise([]) == []
    table, lines = summary_table([])
    assert table.row_count == 0 and lines == []


def grid(*points: tuple[float, float], **more) -> list[dict]:
    """Return runs of backprop at learning rates with validation accuracies; the test accuracy favours the first one."""
    return [
        result("bp", seed, 0.9 - index / 100, lr=lr, val=val, **more)
        for index, (lr, val) in enumerate(points)
        for seed in (0, 1)
    ]


def marked(text: str) -> list[str]:
    """Return the lines of a table that are marked as the best."""
    return [line for line in text.splitlines() if line.startswith("│") and "*" in line]


def test_the_best_by_validation_is_marked_not_the_best_on_test():
    text = shown(grid((0.01, 0.6), (0.1, 0.8), (1, 0.7)))
    [best] = marked(text)
    assert "0.1 " in best and "80.00 ± 0.00 % *" in best and "89.00 ± 0.00 %" in best
    assert "* best by validation accuracy" in text and "smallest" not in text and "largest" not in text


def test_the_mean_over_seeds_is_compared():
    lucky = [result("bp", seed, 0.5, lr=0.1, val=val) for seed, val in enumerate((0.9, 0.3))]
    steady = [result("bp", seed, 0.5, lr=0.2, val=0.7) for seed in (0, 1)]
    [best] = marked(shown(lucky + steady))
    assert "70.00" in best


def test_equal_rows_are_all_marked():
    assert len(marked(shown(grid((0.01, 0.8), (0.1, 0.8), (1, 0.7))))) == 2


def test_noise_levels_are_not_compared():
    text = shown([result(rule, 0, acc, rate=rate) for rule, acc, rate in PAIRS])
    assert len(marked(text)) == 2 and "of its data and noise" in text
    assert not marked(shown([result("bp", 0, 0.9), result("bp", 0, 0.8, rate=0.4)]))  # nothing to choose between


PAIRS = [("bp", 0.9, 0.0), ("fa", 0.8, 0.0), ("bp", 0.6, 0.4), ("fa", 0.7, 0.4)]


def test_splits_are_not_compared_but_preparations_are():
    def of(**data) -> dict:
        cfg = check({"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}, "trainer": {"epochs": 1}, "data": data})
        return result("bp", 0, 0.9) | {"group": group_name(cfg), "config": cfg.as_dict()}

    assert len({row["task"] for row in summarise([of(val_fraction=0.1), of(val_fraction=0.2)])}) == 2
    assert len({row["task"] for row in summarise([of(batch_size=10), of(batch_size=20), of(normalize="unit")])}) == 1


def test_a_row_with_a_diverged_run_or_fewer_runs_is_no_candidate():
    results = grid((0.01, 0.6), (0.1, 0.7))
    text = shown([*results, result("bp", 0, 0.9, lr=1), result("bp", 1, None, lr=1)])
    assert "70.00" in marked(text)[0] and len(marked(text)) == 1 and "not candidates" in text
    assert "largest" not in text  # a rate of 1 was swept, and diverged
    assert "70.00" in marked(shown([*results, result("bp", 0, 0.9, lr=1)]))[0]


def test_without_validation_images_nothing_is_marked_and_it_is_said_why():
    results = grid((0.01, 0.6), (0.1, 0.8), (1, 0.7), selected_by="last")
    for one in results:
        del one["last"]["val_top1"]
    text = shown(results)
    assert not marked(text) and "No row is marked as the best" in text and "data.val_fraction=0.1" in text
    assert "val" not in text.split("│")[0] and "largest" not in text


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (
            ((0.01, 0.9), (0.1, 0.8), (1, 0.7)),
            "optimizer.lr=0.01, the smallest of 0.01, 0.1, 1: a smaller one may be better",
        ),
        (
            ((1, 0.9), (0.01, 0.8), (0.1, 0.7)),
            "optimizer.lr=1, the largest of 0.01, 0.1, 1: a larger one may be better",
        ),
        (((0.01, 0.8), (0.1, 0.9), (1, 0.7)), ""),
        (((0.01, 0.9), (0.1, 0.9), (1, 0.7)), ""),  # one as good lies inside
        (((0.01, 0.9), (0.1, 0.8)), ""),  # of two values each is at an edge
    ],
)
def test_the_edge_of_what_was_swept_is_warned_of(points, words):
    text = shown(grid(*points))
    assert words in text if words else "may be better" not in text


def test_each_rule_has_its_own_edge():
    results = grid((0.01, 0.9), (0.1, 0.8), (1, 0.7))
    results += [result("fa", 0, 0.5, lr=lr, val=val) for lr, val in ((0.01, 0.3), (0.1, 0.4), (1, 0.2))]
    text = shown(results)
    assert "bp: the best by validation has optimizer.lr=0.01" in text and "fa:" not in text


def test_the_time_of_an_epoch_is_not_shown_of_short_runs():
    assert "s/epoch" not in shown(grid((0.01, 0.6), (0.1, 0.8), seconds=0.9))
    assert summarise(grid((0.01, 0.6), seconds=0.9))[0]["seconds_per_epoch"] is None
    mixed = grid((0.01, 0.6)) + grid((0.1, 0.8), seconds=0.9)
    assert "s/epoch" in shown(mixed)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_table_keeps_what_tells_rows_apart(width):
    results = [
        result(rule, seed, 0.8, rate=0.4, lr=lr)
        for rule in ("lisp_margin", "bp")
        for lr in (0.01, 0.1)
        for seed in (0, 1)
    ]
    text = shown(results, width)
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == 4 and max(map(len, text.splitlines())) <= width
    assert [row.split("│")[1].strip() for row in rows] == ["lisp_margin", "lisp_margin", "bp", "bp"]
    assert all("80.00 ± 0.00 %" in row for row in rows)
    assert ("noise=symmetric0.4" in text) == (width < 120) and "s/epoch" in text  # in a column, or in a line below


def test_a_value_in_brackets_is_no_markup():
    assert "a[x]" in shown([result("a[x]", 0, 0.9)])
