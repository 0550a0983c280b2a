"""The report: what it says of real runs, that it says the same again, and its command."""

import csv
import json
import re
import shlex
import statistics
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from credit.cli.main import main
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.runs.folder import run_folder
from credit.runs.places import runs_root
from credit.tables.expand.manifest import table_folder
from credit.tables.report.report import verdict_lines, write_report
from credit.tables.spec.schema import Figure
from tests.support.table_digits import NAME, Digits
from tests.support.table_runs import change_result, held, table

PNG = b"\x89PNG\r\n"


def write(digits: Digits, folder: Path) -> tuple[str, str]:
    """Write the report and return its Markdown and HTML."""
    page = write_report(digits.spec, digits.manifest, folder)
    return page.read_text(), (folder / "report.html").read_text()


def lines_of(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def accuracies(digits: Digits, row: str, column: str) -> list[float]:
    folders = (digits.folder(row, column, seed) for seed in (0, 1))
    return [100 * json.loads((folder / "result.json").read_text())["last"]["test_top1"] for folder in folders]


def test_published_stands_beside_measured(digits: Digits, tmp_path: Path) -> None:
    page, _ = write(digits, tmp_path)
    mean, std = statistics.mean(found := accuracies(digits, "clean", "bp")), statistics.stdev(found)
    cell = f"{mean:.1f} ± {std:.1f}"
    sign = "+" if mean > 94 else "−"
    assert re.search(rf"\| 0 % \| \*?\*?{cell}\*?\*? \[94.0 ± 3.3\] \|", page)
    assert f"| 0 % | BP &lt;hinge> | 94.0 ± 3.3 | {cell} | 2 | {sign}{abs(mean - 94):.1f} |" in page
    assert "| 0 % | LISP | 95.0 ± 1.0 (n = 5) |" in page
    line = lines_of(tmp_path, "report.csv")[0]
    assert (line["row"], line["column"], line["measure"], line["published_mean"]) == ("clean", "bp", "accuracy", "94")
    assert float(line["measured_mean"]) == pytest.approx(mean, rel=1e-5)
    assert float(line["measured_std"]) == pytest.approx(std, rel=1e-5)
    assert float(line["difference"]) == pytest.approx(mean - 94, rel=1e-4)
    assert (line["measured_n"], line["complete"], line["diverged"]) == ("2", "2", "0")


def test_every_run_is_a_line(digits: Digits, tmp_path: Path) -> None:
    write(digits, tmp_path)
    lines = lines_of(tmp_path, "runs.csv")
    assert [(line["row"], line["column"], line["seed"]) for line in lines[:3]] == [
        ("clean", "bp", "0"),
        ("clean", "bp", "1"),
        ("clean", "margin", "0"),
    ]
    for line in lines:
        result = json.loads((runs_root() / line["folder"] / "result.json").read_text())
        assert float(line["accuracy"]) == pytest.approx(100 * result["last"]["test_top1"], rel=1e-5)
        assert line["data_digest"] == result["data_digest"]


def test_a_smaller_budget_is_told_before_anything_else(digits: Digits, tmp_path: Path) -> None:
    page, html = write(digits, tmp_path)
    top = page.split("## ")[0]
    assert "> **quick budget: tests the claims in small; not the published setting.**" in top
    assert "2 seeds a cell; 6 of 6 runs complete" in top
    assert "| `trainer.epochs` | `200` | `2` | all cells |" in top
    assert html.index("not the published setting") < html.index("<h2>")
    assert 'class="box loud"' in html


def test_verdicts_come_first_and_are_those_of_the_terminal(digits: Digits, tmp_path: Path) -> None:
    page, html = write(digits, tmp_path)
    assert page.index("## Claims") < page.index("## Test accuracy")
    told = verdict_lines(digits.spec, digits.manifest)
    assert [line.split(":")[0].split()[-1] for line in told] == ["better", "robust", "falls"]
    for line in told:
        words = line.split(": ", 1)[1]
        assert words in page
        assert words.replace("<", "&lt;") in html


class _Page(HTMLParser):
    """Checks that tags close in order, and keeps what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(digits: Digits, tmp_path: Path) -> None:
    _, html = write(digits, tmp_path)
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert len(page.fetched) == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.fetched)
    assert "BP &lt;hinge&gt;" in html
    assert "prefers-color-scheme: dark" in html


def test_a_figure_is_drawn_where_there_is_something_to_draw(digits: Digits, tmp_path: Path) -> None:
    page, _ = write(digits, tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("*.png"))] == [f"figure{i}.png" for i in (1, 2, 3, 4)]
    assert all(file.read_bytes().startswith(PNG) for file in tmp_path.glob("*.png"))
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", page) == [
        ("All", "figure1.png"),
        ("By noise", "figure2.png"),
        ("By epoch", "figure3.png"),
        ("By layer", "figure4.png"),
    ]


def test_pictures_of_an_older_report_are_removed_and_nothing_else(digits: Digits, tmp_path: Path) -> None:
    others = ("figure.png", "figure05.png", "figure5.pdf", "myfigure5.png", "figure5.png.bak")
    for name in ("figure5.png", "figure12.png", *others):
        (tmp_path / name).write_bytes(b"old")
    write(digits, tmp_path)
    kept = {file.name for file in tmp_path.iterdir() if "figure" in file.name}
    assert kept == {"figure1.png", "figure2.png", "figure3.png", "figure4.png", *others}
    write_report(replace(digits.spec, figures=()), digits.manifest, tmp_path)
    assert {file.name for file in tmp_path.iterdir() if "figure" in file.name} == set(others)


def test_the_standard_deviation_is_named(digits: Digits, tmp_path: Path) -> None:
    page, _ = write(digits, tmp_path)
    says = "Measured mean ± sample standard deviation (divided by n − 1) over repeats, at the last epoch; in square brackets"
    assert says in page


def test_the_best_on_validation_is_the_last_where_nothing_was_held_out(own: Path, tmp_path: Path) -> None:
    spec = table(own, "compare: a > b, at: [r0]", accuracy="best_val")
    collected = held(spec, {("r0", "a"): [91.0, 92.0, 93.0], ("r0", "b"): [81.0, 82.0, 83.0]})
    page = write_report(spec, collected.manifest, tmp_path / "out").read_text()
    assert "over repeats, at the last epoch (nothing was held out to choose one by); in" in page
    assert "The accuracy is that of the last epoch (nothing was held out to choose one by)." in page
    assert "best on validation" not in page
    jobs = collected.manifest.jobs
    change_result(jobs[0].path(), lambda result: result.update(selected_by="val_top1"))
    page = write_report(spec, collected.manifest, tmp_path / "out").read_text()
    assert "at the epoch that was best on validation, or the last of a run that held nothing out;" in page
    for job in jobs:
        change_result(job.path(), lambda result: result.update(selected_by="val_top1"))
    page = write_report(spec, collected.manifest, tmp_path / "out").read_text()
    assert "at the epoch that was best on validation; in" in page


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_but_for_times(digits: Digits, tmp_path: Path) -> None:
    first, again, later = (tmp_path / name for name in ("first", "again", "later"))
    write(digits, first)
    write(digits, again)
    assert {f.name: f.read_bytes() for f in first.iterdir()} == {f.name: f.read_bytes() for f in again.iterdir()}
    for job in digits.manifest.jobs:
        change_result(job.path(), _slower)
    write(digits, later)
    assert _without_times((first / "report.md").read_text()) == _without_times((later / "report.md").read_text())
    assert "33.3" in (later / "report.md").read_text()
    assert all((first / f"figure{i}.png").read_bytes() == (later / f"figure{i}.png").read_bytes() for i in (1, 2, 3, 4))
    for name in ("report.csv", "runs.csv"):
        kept = [
            [
                {key: value for key, value in line.items() if not key.endswith("_seconds")}
                for line in lines_of(folder, name)
            ]
            for folder in (first, later)
        ]
        assert kept[0] == kept[1]
        assert lines_of(first, name) != lines_of(later, name)


def _slower(result: dict[str, Any]) -> None:
    result.update(seconds=77.7, seconds_per_epoch=33.3)
    for part in ("last", "best"):
        result[part]["seconds"] = 77.7


def _without_times(page: str) -> str:
    before, times = page.split("\n## Times\n")
    return before + times[times.index("\n## ") :]


def test_diverged_failed_and_missing_runs_are_counted_and_shown(digits: Digits, tmp_path: Path) -> None:
    digits.end("clean", "margin", 0, "diverged")
    digits.end("clean", "bp", 0, "failed")
    (digits.folder("clean", "bp", 1) / "result.json").unlink()
    page, _ = write(digits, tmp_path)
    left = accuracies(digits, "clean", "margin")[1]
    assert "3 of 6 runs complete, 1 diverged †, 1 failed, 1 missing" in page
    assert f"{left:.1f} (1 of 2, 1 diverged †) [95.0 ± 1.0]" in page.replace("**", "")  # bold where it is the best
    assert "– (0 of 2, 1 failed, 1 missing) [94.0 ± 3.3]" in page
    assert "BP &lt;hinge> at 0 % has no number (0 of 2, 1 failed, 1 missing)" in page


def test_where_it_comes_from_is_told_without_the_machines_paths(digits: Digits, tmp_path: Path) -> None:
    write(digits, tmp_path / "here")
    for file in (tmp_path / "here").glob("*.[mhc]*"):
        assert str(tmp_path) not in file.read_text(), file.name
        assert str(runs_root()) not in file.read_text(), file.name
    page = (tmp_path / "here" / "report.md").read_text()
    result = json.loads((digits.folder("clean", "bp", 0) / "result.json").read_text())
    origin = result["provenance"]
    assert f"| command | `credit table {NAME} budget=quick" in page
    for fact in (origin["versions"]["torch"], origin["machine"]["processor"], result["data_digest"]):
        assert fact in page
    assert f"| commit | {origin['commit'] or '–'} |" in page


def test_runs_of_two_commits_are_both_told(digits: Digits, tmp_path: Path) -> None:
    for seed, commit in enumerate(("aaaa", "bbbb")):
        folder = digits.folder("clean", "bp", seed)
        change_result(folder, partial(_made_at, commit))
    page, _ = write(digits, tmp_path)
    assert re.search(r"\| commit \| aaaa and bbbb", page)
    assert "Runs of different code or machines stand in one table" in page


def _made_at(commit: str, result: dict[str, Any]) -> None:
    result["provenance"]["commit"] = commit


def test_the_words_of_a_cell_are_those_of_its_runs(digits: Digits, tmp_path: Path) -> None:
    page, _ = write(digits, tmp_path)
    command = re.search(r"# 40 %, LISP\n(.*)", page)
    assert command is not None
    program, flag, *words = shlex.split(command[1])
    assert (program, flag) == ("credit-train", "-m")
    for seed in (0, 1):
        one = [f"seed={seed}" if word == "seed=0,1" else word for word in words]
        assert f"seed={seed}" in one
        assert run_folder(compose(one)) == digits.folder("noisy", "margin", seed)


def test_an_accuracy_chosen_on_test_stands_beside_an_honest_one(own: Path, tmp_path: Path) -> None:
    spec = table(own, "compare: a > b, at: [r0]", accuracy="best_test")
    collected = held(spec, {("r0", "a"): [91.0, 92.0, 93.0], ("r0", "b"): [81.0, 82.0, 83.0]})
    for run in collected.all():
        best = run.job.path() / "metrics.jsonl"
        best.write_text('{"epoch": 1, "step": 1, "test_top1": 0.99}\n{"epoch": 2, "step": 2, "test_top1": 0.9}\n')
    page = write_report(spec, collected.manifest, tmp_path / "out").read_text()
    assert "at the epoch that was best on test, which chooses on the test set" in page
    assert "Honestly, at the epoch not chosen on test (last epoch):" in page
    assert "| row 0 | a | – | 99.0 ± 0.0 | 3 | – | 92.0 ± 1.0 |" in page
    dishonest, honest = page.split("The same, with the epoch not chosen on test")
    assert "? **undecided** | it |" in dishonest
    assert "✓ **held** | it |" in honest


def test_a_damaged_run_is_marked_and_costs_no_other(digits: Digits, tmp_path: Path, capsys) -> None:
    first, second, *_ = digits.manifest.jobs
    (first.path() / "result.json").write_bytes(b"{\xff")
    metrics = second.path() / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b'"step"', b'"stop"', 1))
    page = write_report(digits.spec, digits.manifest, tmp_path).read_text()
    assert "1 damaged" in page
    words = capsys.readouterr().err
    assert f"{first.path() / 'result.json'} is damaged (not JSON)" in words and "line 1 is no row of metrics" in words
    lines = {line["folder"]: line["status"] for line in lines_of(tmp_path, "runs.csv")}
    assert lines[first.path().name] == "damaged" and lines[second.path().name] == "complete"


def test_no_time_of_an_epoch_is_shown_of_runs_of_less_than_a_second(digits: Digits, tmp_path: Path) -> None:
    page = write_report(digits.spec, digits.manifest, tmp_path).read_text()
    assert "Seconds an epoch" not in page.replace("| seconds an epoch", "") and "trained for less than 1 s" in page
    assert all(line["epoch_seconds"] == "" for line in lines_of(tmp_path, "runs.csv"))


def test_a_time_as_the_main_measure_is_in_the_main_table(digits: Digits, tmp_path: Path) -> None:
    for job in digits.manifest.jobs:
        change_result(job.path(), lambda result: result.update(seconds=1.5))
    figure = Figure("bars", "Seconds")
    spec = replace(
        digits.spec, measures=("seconds_per_epoch", "total_seconds"), published={}, claims=(), figures=(figure,)
    )
    page = write_report(spec, digits.manifest, tmp_path).read_text()
    assert page.index("## Seconds an epoch") < page.index("## Settings")
    assert page.index("## Seconds a run") < page.index("## Settings")
    assert [line["measure"] for line in lines_of(tmp_path, "report.csv")[:2]] == ["seconds_per_epoch", "total_seconds"]
    assert (tmp_path / "figure1.png").read_bytes().startswith(PNG)


def test_jobs_of_cells_that_the_table_lost_are_left_out_and_said(digits: Digits, tmp_path: Path) -> None:
    jobs = (*digits.manifest.jobs, replace(digits.manifest.jobs[0], column="gone"))
    page = write_report(digits.spec, replace(digits.manifest, jobs=jobs), tmp_path).read_text()
    assert "1 run of cells that the table's file no longer has: left out." in page
    assert "6 of 6 runs complete" in page


def test_a_folder_that_cannot_be_written_is_told(digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the report cannot be written .*another folder: --to FOLDER"):
        write_report(digits.spec, digits.manifest, tmp_path / "file")


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Any:
    """Forget the folders that a command used."""
    yield
    use_folders([])


@pytest.mark.usefixtures("forgotten")
def test_the_command_writes_beside_the_manifest_or_elsewhere(
    digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", NAME, "--config-dir", str(digits.conf)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert (table_folder(NAME, "quick") / "report.html").is_file()
    assert f"report: {table_folder(NAME, 'quick') / 'report.md'} (and report.html)" in out
    assert len(re.findall(r"^– too few repeats +\w", out, re.MULTILINE)) == 3
    assert main([*words, "budget=quick", "--to", str(tmp_path / "kept")]) == 0
    assert (tmp_path / "kept" / "runs.csv").read_text() == (table_folder(NAME, "quick") / "runs.csv").read_text()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "one table at a time, by name, and none given: credit report lisp/fig3"),
        (["lisp/fig3", "lisp/table3"], "one table at a time, by name, and lisp/fig3, lisp/table3 given"),
        (["lisp/fig3", "trainer.epochs=3"], "'trainer.epochs=3': a report runs nothing, so it takes budget=... alone"),
        (["lisp/fig3", "budget=quik"], "budget=quik: did you mean 'quick'?"),
        (["lisp/fig3", "--too", "x"], "unknown flag '--too': did you mean '--to'?"),
        (["lisp/fig3", "--to"], "argument --to: expected one argument"),
        (["lisp/fig4"], "unknown table 'lisp/fig4': did you mean 'lisp/fig"),
        (["lisp/fig3", "budget=paper"], "lisp/fig3 was not run at budget=paper"),
    ],
)
def test_the_command_refuses(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *words]) == 2
    assert told in capsys.readouterr().err
