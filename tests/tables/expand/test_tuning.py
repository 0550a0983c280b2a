"""Tuned tables: candidates alike for every cell, chosen on validation; and what is timed beside a table's runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from credit.cli.main import main as credit
from credit.core.errors import UserError
from credit.tables.expand.jobs import expand
from credit.tables.expand.manifest import Job, Manifest, read_manifest, write_manifest
from credit.tables.expand.tuning import FIRST_SEED, at_edge
from credit.tables.measures.collect import collect
from credit.tables.report.blocks import Table
from credit.tables.report.summary import summary
from credit.tables.spec.load import load
from credit.tables.spec.schema import Spec, Tuning, Words
from tests.support.written import line_of, write

TABLE = """\
# Tuned on Digits
title: Rules under noise
measures: [accuracy, noise_loss, time_ratio, memory_ratio]
accuracy: last
split: the usual
lines: columns
costs: {against: bp, rows: [clean], seconds: 0.1}
tune:
  set: [[optimizer.lr=0.1], [optimizer.lr=0.01], [optimizer.lr=1.0e-7]]
  like: {noisy: clean}
  trials: [trainer.steps=3]
common: [data=digits, arch=mlp, "arch.widths=[8]", data.batch_size=20, data.limit_train=200, data.limit_test=50]
rows:
  clean: {label: clean}
  noisy: {label: 40 % wrong, set: [noise=0.4], base: clean}
columns:
  bp: {label: BP, set: [rule=bp], family: backprop}
  fa: {label: FA, set: [rule=fa], family: feedback}
  dfa: {label: DFA, set: [rule=dfa], family: feedback, rows: [clean], why: it is told here.}
figures:
  - {kind: dots, title: Accuracy}
  - {kind: trade, title: Accuracy and time}
budgets:
  smoke: {says: It runs., seeds: 1, set: [trainer.steps=20]}
  quick: {says: A little., seeds: 2, set: [trainer.epochs=3], tune: {seeds: 2}}
  paper: {says: All., seeds: 2, tune: {set: [[optimizer.lr=0.1], [optimizer.lr=0.01]], like: {}, trials: []}}
"""


def tuned(own: Path, budget: str = "smoke", text: str = TABLE, words: tuple[str, ...] = ()) -> tuple[Spec, Manifest]:
    spec = load(write(own, text, "lab/tuned"))
    return spec, expand(spec, budget, words=words)


def end(job: Job, val: float, test: float = 0.5, status: str = "complete") -> None:
    """Write a trial's result."""
    job.path().mkdir(parents=True)
    last = {"epoch": 1, "val_top1": val, "test_top1": test}
    (job.path() / "result.json").write_text(json.dumps({"status": status, "last": last, "best": last, "seconds": 1.0}))


def trials(manifest: Manifest, column: str) -> list[Job]:
    return [job for job in manifest.trials if job.column == column]


def rates(manifest: Manifest, column: str) -> dict[str, set[str]]:
    """Return the learning rates of a column's runs by row."""
    found: dict[str, set[str]] = {}
    for job in manifest.jobs:
        if job.column == column:
            found.setdefault(job.row, set()).update(word for word in job.words if word.startswith("optimizer.lr="))
    return found


def test_every_cell_tries_the_same_with_seeds_of_its_own(own: Path) -> None:
    _, manifest = tuned(own, "quick")
    assert len(manifest.trials) == 3 * 3 * 2 and {job.row for job in manifest.trials} == {"clean"}
    assert {job.repeat["seed"] for job in manifest.trials} == {FIRST_SEED, FIRST_SEED + 1}
    assert {job.repeat["seed"] for job in manifest.jobs} == {0, 1}
    assert all("trainer.steps=3" in job.words and "trainer.epochs=3" not in job.words for job in manifest.trials)
    assert all("trainer.epochs=3" in job.words for job in manifest.jobs)
    assert all(manifest.is_open(job) for job in manifest.jobs)
    assert [(job.row, job.column) for job in manifest.costs] == [("clean", "bp"), ("clean", "fa"), ("clean", "dfa")]


def tuning_of(spec: Spec) -> Tuning:
    tune = spec.budgets["smoke"].tune
    assert tune is not None
    return tune


def test_validation_chooses_and_test_does_not(own: Path) -> None:
    spec, manifest = tuned(own)
    for job, val, test in zip(trials(manifest, "bp"), (0.6, 0.7, 0.65), (0.9, 0.1, 0.9), strict=True):
        end(job, val, test)
    again = expand(spec, "smoke")
    assert rates(again, "bp") == {"clean": {"optimizer.lr=0.01"}, "noisy": {"optimizer.lr=0.01"}}
    choices = {(choice.row, choice.column): choice for choice in again.choices}
    assert choices["noisy", "bp"].of == "clean" and choices["noisy", "bp"].accuracies == (60.0, 70.0, 65.0)
    assert choices["clean", "bp"].chosen == 1 and not at_edge(tuning_of(spec), 1)
    assert choices["clean", "fa"].chosen == -1
    assert [again.is_open(job) for job in again.jobs] == [job.column != "bp" for job in again.jobs]
    write_manifest(again)
    assert read_manifest("lab/tuned", "smoke") == again


def test_a_diverged_candidate_loses_and_an_edge_is_told(own: Path) -> None:
    spec, manifest = tuned(own)
    for job, val, status in zip(
        trials(manifest, "bp"), (0.9, 0.2, 0.3), ("diverged", "complete", "complete"), strict=True
    ):
        end(job, val, status=status)
    for job in trials(manifest, "fa"):
        end(job, 0.5)
    choices = {(choice.row, choice.column): choice for choice in expand(spec, "smoke").choices}
    assert choices["clean", "bp"].accuracies == (None, 20.0, 30.0)
    assert choices["clean", "bp"].chosen == 2 and at_edge(tuning_of(spec), 2)
    assert choices["clean", "fa"].chosen == 0


@pytest.mark.parametrize(
    ("candidates", "chosen", "expected"),
    [
        (["lr=0.1", "lr=0.01", "lr=1"], 0, False),  # listed first, and in the middle by its number
        (["lr=0.1", "lr=0.01", "lr=1"], 1, True),
        (["lr=0.1", "lr=1"], 0, False),
        (["kind=adam", "kind=sgd", "kind=adamw"], 0, False),
        (["momentum=0", "momentum=0.5", "momentum=0.9"], 0, False),  # nothing lies below
        (["momentum=0", "momentum=0.5", "momentum=0.9"], 2, True),
        (["lr=1e-3 momentum=0", "lr=1e-2 momentum=0.9", "lr=1e-1 momentum=0"], 1, False),
        (["lr=1e-3 momentum=0", "lr=1e-2 momentum=0", "lr=1e-1 momentum=0.9"], 2, True),
    ],
)
def test_an_edge_is_one_of_numbers_not_of_places(candidates: list[str], chosen: int, expected: bool) -> None:
    words = tuple(Words(tuple(f"optimizer.{word}" for word in line.split())) for line in candidates)
    assert at_edge(Tuning(words), chosen) == expected


def test_several_seeds_of_a_candidate_count_by_their_mean(own: Path) -> None:
    spec, manifest = tuned(own, "quick")
    for job, val in zip(trials(manifest, "bp"), (0.2, 0.9, 0.5, 0.5, 0.6, 0.6), strict=True):
        end(job, val)
    choices = {(choice.row, choice.column): choice for choice in expand(spec, "quick").choices}
    assert choices["clean", "bp"].accuracies == pytest.approx((55, 50, 60)) and choices["clean", "bp"].chosen == 2


def test_a_budget_has_an_allowance_of_its_own(own: Path) -> None:
    spec, manifest = tuned(own, "paper")
    assert len(manifest.trials) == 2 * 5 and not any("trainer.steps=3" in job.words for job in manifest.trials)
    cut = next(cut for cut in tuned(own)[1].cuts if cut.key == "tune")
    assert (
        cut.paper == "optimizer.lr=0.1; optimizer.lr=0.01: 1 run each"
        and "1.0e-7: 1 run each, trainer.steps=3" in cut.here
    )
    assert not [cut for cut in manifest.cuts if cut.key == "tune"]


BAD: list[tuple[str, str, str, str]] = [
    # what is written instead of what, the piece its line is found by, what is said
    ("set: [[optimizer.lr=0.1], [optimizer.lr=0.01], [optimizer.lr=1.0e-7]]", "set: [[optimizer.lr=0.1]]", "set: [[opt",
     "tune.set: give two candidates or more, as [[optimizer.lr=0.1], [optimizer.lr=0.01]]"),
    ("like: {noisy: clean}", "like: {noizy: clean}", "like:", "unknown row 'noizy' in tune.like: did you mean 'noisy'"),
    ("like: {noisy: clean}", "like: {noisy: claen}", "like:", "unknown row 'claen' in tune.like.noisy: did you mean 'clean'"),
    ("like: {noisy: clean}", "like: {noisy: noisy}", "like:", "tune.like: row 'noisy' takes the choice of itself"),
    ("like: {noisy: clean}", "like: {clean: noisy}", "tune:", "tune.like: no cell noisy/dfa for clean/dfa to take the choice of"),
    ("trials:", "trails:", "trails:", "unknown key 'trails' in tune: did you mean 'trials'"),
    ("accuracy: last", "accuracy: best_test", "tune:", "tune: a table with `accuracy: best_test` chooses on test"),
    ("split: the usual", "split: the usual\nrepeat: {data.fold: [0, 1]}", "tune:", "tune: with `repeat` over data.fold"),
    ("trials: [trainer.steps=3]", "trials: [seed=3]", "trials:", "'seed=3': seeds are counted"),
    ("base: clean}", "base: clear}", "  noisy: {label", "unknown row 'clear' in rows.noisy.base: did you mean 'clean'"),
    (", base: clean", "", "measures:", "noise_loss needs a row with a `base`"),
    ("against: bp", "against: pb", "costs:", "unknown column 'pb' in costs.against: did you mean 'bp'"),
    ("rows: [clean], why", "why", "  dfa:", "columns.dfa: `why` says why rows lack the column, and all have it"),
    ("costs: {against: bp, rows: [clean], seconds: 0.1}\n", "", "  - {kind: trade",
     "time_ratio is measured by no run of the table: give it `costs`"),
    ("budgets:", "published:\n  clean: {bp: 90}\nbudgets:", "  clean: {bp: 90",
     "published numbers stand somewhere: name the table's `source`"),
    ("seeds: 2, set", "seeds: 2, without: {fb: {rows: [clean], why: slow}}, set", "  quick:",
     "unknown column 'fb' in budgets.quick.without"),
    ("lines: columns", "lines: colums", "lines:", "lines=colums: did you mean 'columns'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "at", "said"), BAD)
def test_what_is_wrong_is_named_with_file_and_line(own: Path, old: str, new: str, at: str, said: str) -> None:
    text = TABLE.replace(old, new, 1)
    assert text != TABLE
    with pytest.raises(UserError) as caught:
        load(write(own, text, "lab/tuned"))
    assert f"tuned.yaml:{line_of(text, at)}: " in str(caught.value) and said in str(caught.value)


BAD_RUNS: list[tuple[str, str, str, str]] = [
    (
        "[optimizer.lr=0.01], [o",
        "[optimizer.rl=0.01], [o",
        "  set: [[",
        "optimizer.rl=0.01, in cell clean/bp: optimizer.rl=0.01: optimizer=sgd has no such option; did you mean 'lr'",
    ),
    (
        "[optimizer.lr=0.01], [o",
        "[optimizer.lr=0.1], [o",
        "tune:",
        "tune: candidates 1 and 2 are one and the same run in cell",
    ),
    (
        "data.limit_test=50",
        "data.limit_test=50, data.val_fraction=0",
        "tune:",
        "holds no image out (data.val_fraction=0)",
    ),
]


@pytest.mark.parametrize(("old", "new", "at", "said"), BAD_RUNS)
def test_candidates_that_cannot_be_chosen_from_are_refused(own: Path, old: str, new: str, at: str, said: str) -> None:
    text = TABLE.replace(old, new, 1)
    assert text != TABLE
    with pytest.raises(UserError) as caught:
        tuned(own, "smoke", text)
    assert f"tuned.yaml:{line_of(text, at)}: " in str(caught.value) and said in str(caught.value)


def test_a_word_that_takes_the_candidates_away_is_refused(own: Path) -> None:
    with pytest.raises(
        UserError, match=r"optimizer.lr=0.5: lab/tuned tunes optimizer.lr, and candidates 1 and 2 are one and"
    ):
        tuned(own, "smoke", words=("optimizer.lr=0.5",))


def test_a_word_that_leaves_nothing_to_choose_by_is_blamed_itself(own: Path) -> None:
    with pytest.raises(UserError, match=r"^data.val_fraction=0: lab/tuned chooses by validation images"):
        tuned(own, "smoke", words=("data.val_fraction=0",))


def test_a_budget_leaves_cells_out_with_a_reason(own: Path) -> None:
    text = TABLE.replace("seeds: 1, set", "seeds: 1, without: {fa: {rows: [noisy], why: it is slow there}}, set")
    spec, manifest = tuned(own, "smoke", text)
    assert "noisy/fa" not in {f"{job.row}/{job.column}" for job in manifest.jobs} and len(manifest.jobs) == 4
    assert [(cut.paper, cut.here, cut.where) for cut in manifest.cuts if cut.key == "cells"] == [
        (5, 4, "without noisy/fa")
    ]
    assert len(expand(spec, "quick").jobs) == 2 * 5
    told = [block for block in summary(collect(spec, manifest)) if isinstance(block, Table)]
    assert ("FA", "40 % wrong", "it is slow there") in told[-1].rows


def test_older_manifests_are_read(own: Path) -> None:
    folder = write_manifest(tuned(own)[1])
    held: dict[str, Any] = json.loads((folder / "table.json").read_text())
    for key in ("trials", "choices", "costs"):
        held.pop(key)
    (folder / "table.json").write_text(json.dumps(held))
    assert read_manifest("lab/tuned", "smoke").trials == ()


def test_trials_come_first_and_everything_is_skipped_the_next_time(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(own, TABLE, "lab/tuned")
    words = ["table", "lab/tuned", "budget=smoke", "--config-dir", "conf", "hydra.launcher.jobs=1"]
    assert credit(words) == 0
    shown = capsys.readouterr().out
    assert "17 jobs (5 cells, 1 seed and 9 trials and 3 timings), 0 already complete" in shown
    assert shown.index("[9/9] clean/dfa candidate 3 seed=1000") < shown.index("[1/5] clean/bp seed=0")
    held = collect(load("lab/tuned"), read_manifest("lab/tuned", "smoke"))
    for choice in held.manifest.choices:
        assert choice.ended == (1, 1, 1) and choice.chosen == choice.accuracies.index(
            max(choice.accuracies, key=lambda a: a or 0)
        )
    for cell in (("clean", "bp"), ("clean", "fa"), ("clean", "dfa")):
        assert held.summary(cell, "memory_ratio").mean == pytest.approx(1, abs=0.6)
        assert held.summary(cell, "time_ratio").asked == 1 and held.summary(cell, "accuracy").asked == 1
    assert held.summary(("clean", "bp"), "memory_ratio").mean == 1
    there, here = (held.summary((row, "fa"), "accuracy").mean for row in ("clean", "noisy"))
    assert there is not None and here is not None
    assert held.summary(("noisy", "fa"), "noise_loss").mean == pytest.approx(there - here)
    assert held.summary(("clean", "fa"), "noise_loss").asked == 0
    page = (own.parent / "runs" / "tables" / "lab-tuned-smoke" / "report.md").read_text()
    assert "| BP | backprop | " in page and "| DFA | 40 % wrong | it is told here. |" in page
    assert "## What was tuned" in page and "A comparison of this project's own" in page
    assert "### Accuracy\n\n![Accuracy](figure1.png)" in page and "![Accuracy and time](figure2.png)" in page

    assert credit(words) == 0
    again = capsys.readouterr().out
    assert "17 already complete\n" in again and "[1/" not in again

    lost = next(job for job in held.manifest.trials if job.column == "bp")
    shutil.rmtree(lost.path())
    assert credit(words) == 0
    shown = capsys.readouterr().out
    assert "[1/1] clean/bp candidate 1" in shown and "[2/" not in shown
    assert (own.parent / "runs" / "tables" / "lab-tuned-smoke" / "report.md").read_text().count(
        "## What was tuned"
    ) == 1
