"""Precision, recall and F1 of a table's runs, and the pictures of classes, from real runs on Digits."""

from pathlib import Path

import pytest

from credit.core.errors import UserError
from credit.runs.folder import run_folder
from credit.tables.expand.manifest import Job, Manifest
from credit.tables.figures.classes import confusion, points
from credit.tables.figures.plots import draw
from credit.tables.measures.collect import Collection, Run, collect
from credit.tables.measures.measures import measure
from credit.tables.spec.schema import Figure
from credit.training import train
from tests.support.small_runs import small_config
from tests.support.table_digits import Digits
from tests.support.table_runs import change_result, table

CELL = ("noisy", "margin")


def test_scores_are_those_of_the_epoch_whose_accuracy_is_shown(digits: Digits) -> None:
    run = digits.collected().runs[CELL][0]
    assert run.result is not None
    for name in ("precision", "recall", "f1"):
        course = [100 * row[f"test_{name}"] for row in run.rows]
        assert run.number(name, "last") == course[-1]
        assert run.number(name, "best_val") == pytest.approx(100 * run.result["best"][f"test_{name}"])
        assert run.number(name, "best_test") == max(course)
        number = measure(name).by_epoch
        assert number is not None and [number(row) for row in run.rows] == course
    counts = run.rows[-1]["confusion"]["test"]
    by_hand = [counts[c][c] / sum(counts[c]) for c in range(10)]  # of each class, what was answered rightly
    assert run.number("recall", "last") == pytest.approx(10 * sum(by_hand))
    with pytest.raises(UserError, match="a row of metrics.jsonl has no 'confusion'"):
        measure("confusion.test")


def test_a_cells_confusion_matrix_is_that_of_all_its_repeats_at_the_epoch_that_is_asked_for(digits: Digits) -> None:
    runs = digits.collected().runs[CELL]
    found = confusion(runs, "last")
    assert found is not None
    names, shares = found
    assert names == [str(c) for c in range(10)] and [sum(row) for row in shares] == pytest.approx([100] * 10)
    counts = [run.rows[-1]["confusion"]["test"] for run in runs]
    assert shares[3][8] == pytest.approx(100 * sum(c[3][8] for c in counts) / sum(sum(c[3]) for c in counts))
    first = digits.folder(*CELL, 0)
    best = runs[0].rows[0]  # of two epochs the first is the best by then, so it has one
    change_result(first, lambda result: result.update(best={**result["best"], "step": best["step"]}))
    digits.end(*CELL, 1, "diverged")
    chosen = confusion(digits.collected().runs[CELL], "best_val")
    assert chosen is not None
    row = best["confusion"]["test"][0]
    assert chosen[1][0] == pytest.approx([100 * count / sum(row) for count in row])
    digits.end(*CELL, 0, "failed")
    assert confusion(digits.collected().runs[CELL], "last") is None


def test_a_confusion_matrix_is_drawn_where_a_run_has_one(digits: Digits, tmp_path: Path) -> None:
    file = tmp_path / "confusion.png"
    assert draw(Figure("confusion", "All"), digits.collected(), file) and file.stat().st_size > 20000
    once = file.read_bytes()
    assert draw(Figure("confusion", "All"), digits.collected(), file) and file.read_bytes() == once
    for seed in (0, 1):
        digits.end(*CELL, seed, "diverged")
    assert not draw(Figure("confusion", "None", rows=("noisy",)), digits.collected(), file) and not file.exists()


def embedded(tmp_path: Path) -> Collection:
    """Return a table of which cell r0/a has two runs with an embedding and r1/b one without."""
    runs = []
    for cell, seed, wanted in (("r0/a", 0, True), ("r0/a", 1, True), ("r1/b", 0, False)):
        trainer = {"epochs": 1, "measure": ["embedding"] if wanted else []}
        cfg = small_config("bp", seed=seed, trainer=trainer, data={"limit_test": 60})
        train(cfg, console=False)
        row, column = cell.split("/")
        runs.append(Job(row, column, {"seed": seed}, "train", {}, ("rule=bp",), {}, run_folder(cfg).name))
    spec = table(tmp_path, "compare: a > b")
    return collect(spec, Manifest(spec.name, "quick", 2, (), "credit table", tuple(runs)))


def test_the_first_repeats_points_are_drawn_where_it_has_some(tmp_path: Path) -> None:
    held, file = embedded(tmp_path / "conf"), tmp_path / "embedding.png"
    made = points(held.runs["r0", "a"])
    assert made is not None and made == held.runs["r0", "a"][0].rows[-1]["embedding"] and len(made["x"]) == 60
    assert points(held.runs["r1", "b"]) is None
    assert draw(Figure("embedding", "t-SNE"), held, file) and file.stat().st_size > 10000
    assert not draw(Figure("embedding", "t-SNE", rows=("r1",)), held, file) and not file.exists()
    first: Run = held.runs["r0", "a"][0]
    assert first.number("embedding.neighbours", "last") == pytest.approx(made["neighbours"])
