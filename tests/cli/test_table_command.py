"""`credit table` for real, tiny, on Digits: what it says before, what it skips, what it does about failures."""

import json
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.cli.train import main as train
from credit.tables.expand.manifest import read_manifest
from tests.support.tables import TABLE, rows, timeless, write_table


@pytest.fixture
def runs(own: Path) -> Path:
    """The folder of all runs; the current folder has ``conf`` with the table in it."""
    write_table(own)
    return own.parent / "runs"


def table(*words: str) -> int:
    return credit(["table", "lab/digits", "--config-dir", "conf", *words])


def test_a_dry_run_counts_and_estimates_and_leaves_nothing(runs, capsys):
    assert table("--dry-run") == 0
    shown = capsys.readouterr().out
    assert "lab/digits at budget=quick: 8 jobs (4 cells, 2 seeds), 0 already complete; about " in shown
    assert "(measured: 3 steps of 2 configurations)" in shown
    assert not runs.exists()


def test_a_table_is_run_reported_and_skipped(runs, capsys):
    assert table("budget=smoke", "hydra.launcher.jobs=2") == 0
    first = capsys.readouterr().out
    assert "4 jobs (4 cells, 1 seed), 0 already complete; about " in first and " on 2 processes" in first
    assert "[4/4] " in first and "took " in first and "fa wins: " in first
    folder = runs / "tables" / "lab-digits-smoke"
    page = folder / "report.md"
    assert f"report: {page}" in first
    command = "credit table lab/digits budget=smoke hydra.launcher.jobs=2 --config-dir conf"
    results = [json.loads(file.read_text()) for file in runs.glob("*/result.json")]
    assert len(results) == 4
    typed = "credit table lab/digits --config-dir conf budget=smoke hydra.launcher.jobs=2"
    assert {result["provenance"]["command"] for result in results} == {typed}
    assert all("seed=" in result["provenance"]["job_command"] for result in results)
    assert {result["provenance"]["machine"]["threads"] for result in results} == {1}
    before, measured = timeless(page), rows(folder / "runs.csv")
    assert command in before and len(measured) == 4

    assert table("budget=smoke", "hydra.launcher.jobs=2") == 0
    again = capsys.readouterr().out
    assert "4 already complete\n" in again and "[1/" not in again and "took " not in again
    assert timeless(page) == before and rows(folder / "runs.csv") == measured

    (page).unlink()
    assert credit(["report", "lab/digits", "budget=smoke", "--config-dir", "conf"]) == 0
    assert timeless(page) == before

    assert table("budget=smoke", "seeds=2", "--dry-run") == 0
    assert "8 jobs (4 cells, 2 seeds), 4 already complete" in capsys.readouterr().out


def test_a_run_of_credit_train_is_a_table_run(runs, capsys):
    manifest_words = "data=digits arch=mlp arch.widths=[8] data.batch_size=20 data.limit_train=200 data.limit_test=50"
    assert train([*manifest_words.split(" "), "rule=bp", "noise=0.4", "trainer.steps=4", "seed=0"]) == 0
    assert table("budget=smoke", "--dry-run") == 0
    assert "4 jobs (4 cells, 1 seed), 1 already complete" in capsys.readouterr().out


def test_a_failed_job_costs_no_other_and_is_marked(runs, own, capsys):
    """A user's rule that falls over in one cell; mended, the same command tries that cell alone."""
    (own / "rule").mkdir()
    (own / "rule" / "mine.yaml").write_text("kind: mine\nname: mine\nloss: ce\n")
    rule = own / "rule" / "mine.py"
    body = "import credit\n\n\n@credit.register_rule('mine')\nclass Mine(credit.BackwardRule):\n    pass\n"
    falls = "    def compute(self, params, buffers, x, y, draws):\n        raise ZeroDivisionError('in my rule')\n"
    rule.write_text(body + falls)
    (own / "paper" / "lab" / "digits.yaml").write_text(TABLE.replace("rule=fa", "rule=mine"))
    assert table("budget=smoke") == 1
    shown = capsys.readouterr().out
    assert "0 already complete; about " in shown and "(measured: 3 steps of 1 configuration)" in shown
    assert "clean/fa seed=0, noisy/fa seed=0: ZeroDivisionError: in my rule" in shown and "mine.py" in shown
    assert "2 of 4 jobs failed; the same command skips what is done and tries these again." in shown
    states = {(row["row"], row["column"]): row["status"] for row in _runs_csv(runs)}
    assert states[("clean", "bp")] == "complete" and states[("clean", "fa")] == "failed"
    rule.write_text(body)
    assert table("budget=smoke") == 0
    assert "4 jobs (4 cells, 1 seed), 2 already complete" in capsys.readouterr().out


def test_a_diverged_run_is_a_result(runs, capsys):
    assert table("budget=smoke", "optimizer.lr=1e30", "trainer.steps=30") == 0
    shown = capsys.readouterr().out
    assert "4 runs diverged: clean/bp seed=0, " in shown
    assert {row["status"] for row in _runs_csv(runs)} == {"diverged"}
    assert table("budget=smoke", "optimizer.lr=1e30", "trainer.steps=30", "--dry-run") == 0
    assert "4 already complete" in capsys.readouterr().out


def test_the_manifest_says_what_was_asked(runs):
    assert table("budget=smoke", "seeds=1", "trainer.steps=2", "data.limit_train=100") == 0
    manifest = read_manifest("lab/digits", "smoke")
    assert manifest.words == ("trainer.steps=2", "data.limit_train=100") and manifest.seeds == 1
    assert all(job.path().joinpath("result.json").is_file() for job in manifest.jobs)


REFUSED = [
    ("lab/digit", "unknown table 'lab/digit': did you mean 'lab/digits'?"),
    ("lab/digits budget=quik", "budget=quik: did you mean 'quick'?"),
    ("lab/digits seeds=0", "seeds=0: how many runs a cell"),
    ("lab/digits seeds=few", "seeds=few: how many runs a cell"),
    ("lab/digits --dryrun", "unknown flag '--dryrun': did you mean '--dry-run'?"),
    ("lab/digits -m", "unknown flag '-m'"),
    ("lab/digits lab/other", "one table at a time, by name, and lab/digits, lab/other given"),
    ("budget=smoke", "one table at a time, by name, and none given"),
    ("lab/digits hydra.launcher.jobs=0", "hydra.launcher.jobs=0: must be a whole number in [1, inf)"),
    ("lab/digits hydra.launcher.jobs=two", "hydra.launcher.jobs=two: must be a whole number in [1, inf)"),
    ("lab/digits hydra.launcher.partition=gpu", "hydra/launcher=submitit_slurm hydra.launcher.partition=..."),
    ("lab/digits hydra/launcher=submitit_slrm", "unknown launcher 'submitit_slrm'"),
    ("lab/digits hydra/launcher=basic hydra.launcher.cores=1", "hydra.launcher.cores=1: basic has no such setting"),
    ("lab/digits optimizer.momentun=0.5", "did you mean 'momentum'?"),
    ("lab/digits rule.margn=1", "did you mean 'margin'?"),
    ("lab/digits data.batch_size=5000", "data.batch_size=5000 is larger than the training part"),
]


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_refused_before_anything_starts(runs, capsys, line, words):
    assert credit(["table", *line.split(" "), "--config-dir", "conf"]) == 2
    errors = capsys.readouterr().err
    assert words in errors and "Traceback" not in errors and errors.count("\n") < 6
    assert not list(runs.glob("*"))


def test_without_a_name_it_lists(runs, capsys):
    assert credit(["table", "--config-dir", "conf"]) == 0
    shown = capsys.readouterr().out
    assert "lab/digits " in shown and "Digits with wrong labels  (quick 60 s)" in shown and "lisp/fig3" in shown
    assert credit(["table", "--help"]) == 0
    assert "hydra/launcher=submitit_slurm" in capsys.readouterr().out
    assert credit(["list", "tables", "--config-dir", "conf"]) == 0
    assert "lab/digits" in capsys.readouterr().out


def test_credit_train_sends_tables_here(own, capsys):
    assert train(["paper=lisp/fig3"]) == 2
    assert "paper=lisp/fig3 is many runs: credit table lisp/fig3" in capsys.readouterr().err
    assert train(["rule=bp", "hydra.launcher.jobs=0"]) == 2
    assert "this is one run: add -m" in capsys.readouterr().err


def _runs_csv(runs: Path) -> list[dict[str, str]]:
    return rows(runs / "tables" / "lab-digits-smoke" / "runs.csv")
