"""A table becomes jobs: whose word counts, which runs they are, what a budget cuts, and whose fault a bad word is."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from credit.core.config import check
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.runs.folder import run_folder
from credit.runs.identity import decisive
from credit.runs.places import runs_root
from credit.tables.expand.jobs import as_word, blamed, expand
from credit.tables.expand.manifest import MANIFEST, Cut, Job, Manifest, read_manifest, write_manifest
from credit.tables.spec.layers import settle
from credit.tables.spec.load import load, names
from credit.tables.spec.schema import Words
from tests.support.written import SMALL, line_of, write


def expanded(folder: Path, text: str, budget: str, seeds: int | None = None, words: tuple[str, ...] = ()) -> Manifest:
    return expand(load(write(folder, text)), budget, seeds, words)


def cell(manifest: Manifest, row: str, column: str) -> Job:
    return next(job for job in manifest.jobs if (job.row, job.column) == (row, column))


def settled(*words: str) -> tuple[str, ...]:
    return settle(Words(words, tuple(range(len(words))))).words


def test_every_cell_of_the_budget_runs_once_a_seed(own: Path) -> None:
    manifest = expanded(own, SMALL, "quick")
    assert (manifest.table, manifest.budget, manifest.seeds, manifest.words) == ("lab/small", "quick", 2, ())
    grid = [("clean", "bp"), ("clean", "margin"), ("clean", "fa"), ("noisy", "bp"), ("noisy", "margin")]
    assert [(job.row, job.column, job.repeat) for job in manifest.jobs] == [
        (row, column, {"seed": seed}) for row, column in grid for seed in (0, 1)
    ]
    smoke = expanded(own, SMALL, "smoke")
    assert [(job.row, job.column) for job in smoke.jobs] == [("clean", "bp"), ("clean", "fa"), ("noisy", "bp")]


def test_a_column_chooses_the_normalizer_of_lisp_ce(own: Path) -> None:
    column = "  raw: {set: [rule=lisp_ce, rule.normalizer=none]}\n  fa: {"
    manifest = expanded(own, SMALL.replace("  fa: {", column, 1), "quick")
    rule = compose(cell(manifest, "clean", "raw").words).rule
    assert (rule["name"], rule["gate"], rule["normalizer"]) == ("lisp_ce", "responsive", "none")


def test_a_jobs_words_give_credit_train_the_same_run(own: Path) -> None:
    text = SMALL.replace("cells:", "repeat: {data.split_seed: [0, 7]}\ncells:")
    manifest = expanded(own, text, "quick", 2, ("trainer.steps=30", "logger=wandb", "+logger.tags=[a,b]"))
    assert len(manifest.jobs) == 5 * 4
    for job in manifest.jobs[::3]:
        again = compose(job.words)
        assert again.as_dict() == job.config
        assert job.path() == run_folder(again)
        assert job.folder == run_folder(again).relative_to(runs_root()).as_posix()
        assert (job.config["seed"], job.config["data"]["split_seed"]) == (
            job.repeat["seed"],
            job.repeat["data.split_seed"],
        )
        assert (job.config["trainer"]["steps"], job.config["trainer"]["epochs"]) == (30, None)


def test_values_that_refer_to_the_seed_follow_it(own: Path) -> None:
    manifest = expanded(own, SMALL.replace("noise=0.4]", '"noise=0.4", "data.split_seed=${seed}"]'), "quick", 3)
    seen = [job.config["data"]["split_seed"] for job in manifest.jobs if (job.row, job.column) == ("noisy", "bp")]
    assert seen == [0, 1, 2]


def test_the_later_layer_wins(own: Path) -> None:
    quick = expanded(own, SMALL, "quick")
    assert cell(quick, "noisy", "margin").config["optimizer"]["lr"] == 0.001
    assert cell(quick, "noisy", "margin").config["optimizer"]["weight_decay"] == 0.001
    assert cell(quick, "clean", "margin").config["optimizer"]["weight_decay"] == 0
    assert cell(quick, "noisy", "bp").config["trainer"]["epochs"] == 3
    faster = expanded(own, SMALL, "quick", None, ("optimizer.lr=0.5", "trainer.epochs=1"))
    assert {job.config["optimizer"]["lr"] for job in faster.jobs} == {0.5}
    assert {job.config["trainer"]["epochs"] for job in faster.jobs} == {1}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("optimizer.lr=1", "rule=bp", "+optimizer.lr=2"), ("rule=bp", "+optimizer.lr=2")),
        (("optimizer.lr=1", "optimizer=adam"), ("optimizer.lr=1", "optimizer=adam")),
        (("noise=none", "noise=0.4"), ("noise=0.4",)),
        (("noise.rate=0.2", "noise=0.4"), ("noise=0.4",)),
        (("noise.rate=0.2", "noise=pair_flip"), ("noise.rate=0.2", "noise=pair_flip")),
        (("trainer.epochs=9", "trainer.steps=5"), ("trainer.steps=5",)),
        (("trainer.epochs=9", "trainer.steps=null"), ("trainer.epochs=9", "trainer.steps=null")),
        (("data.augment=[crop,flip]", "data.augment=[]"), ("data.augment=[]",)),
        (("rule.gate.kind=a", "rule.gates=b", "rule.gate={kind: c}"), ("rule.gates=b", "rule.gate={kind: c}")),
    ],
)
def test_of_two_words_about_one_thing_the_later_stays(given: tuple[str, ...], kept: tuple[str, ...]) -> None:
    assert settled(*given) == kept


def test_cuts_are_the_differences_from_the_published_runs(own: Path) -> None:
    assert expanded(own, SMALL, "paper").cuts == ()
    assert expanded(own, SMALL, "quick").cuts == (
        Cut("seeds", 3, 2, "all cells"),
        Cut("optimizer.lr", 0.02, 0.001, "column margin"),
        Cut("trainer.epochs", 200, 3, "all cells"),
    )
    assert expanded(own, SMALL, "smoke", 3).cuts == (
        Cut("columns", 3, 2, "without margin"),
        Cut("data.limit_train", None, 200, "all cells"),
        Cut("trainer.epochs", 200, 1, "all cells"),
    )
    by_word = expanded(own, SMALL, "paper", None, ("optimizer.weight_decay=0.001", "trainer.progress=false"))
    assert by_word.cuts == (Cut("optimizer.weight_decay", 0, 0.001, "clean/bp, clean/margin, clean/fa, noisy/bp"),)
    rows = SMALL.replace("only: {columns: [bp, fa]}", "only: {rows: [clean]}, rows: {clean: [optimizer.lr=0.3]}")
    assert Cut("rows", 2, 1, "without noisy") in expanded(own, rows, "smoke").cuts
    assert Cut("optimizer.lr", 0.05, 0.3, "column bp") in expanded(own, rows, "smoke").cuts


def test_the_reference_of_a_cell_is_the_same_repeat_of_its_row(own: Path) -> None:
    timed = "{label: LISP, runner: timing, options: {against: bp}, "
    text = SMALL.replace("{label: LISP,", timed).replace("columns: [bp, fa]", "columns: [margin]")
    manifest = expanded(own, text, "smoke", 2)
    quick = expanded(own, text, "quick", 2)
    assert [job.options["against"] for job in manifest.jobs] == ["bp"] * 4
    for job in quick.jobs:
        if job.column == "margin":
            beside = next(j for j in quick.jobs if (j.row, j.column, j.repeat) == (job.row, "bp", job.repeat))
            assert job.options["reference"] == beside.config
        else:
            assert job.options == {}


DAMAGE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda held: {"x": 1}, "a manifest without 'table'"),
    (lambda held: held["jobs"][0].pop("words"), "a job without 'words'"),
    (lambda held: held["jobs"][0].update(words="rule=bp"), "the 'words' of a job is of another kind"),
    (lambda held: held["jobs"][0].update(colour=1), "a job with an unknown 'colour'"),
    (lambda held: held.update(jobs="none"), "the 'jobs' of a manifest is of another kind"),
    (lambda held: held.update(jobs=[3]), "a job that is no object"),
    (lambda held: held["cuts"][0].pop("paper"), "a cut without 'paper'"),
    (lambda held: held.pop("seeds"), "a manifest without 'seeds'"),
    (lambda held: held.update(seeds="two"), "the 'seeds' of a manifest is of another kind"),
]


def test_a_damaged_manifest_is_refused_with_the_way_out(own: Path) -> None:
    file = write_manifest(expanded(own, SMALL, "smoke")) / MANIFEST
    whole = file.read_text()
    for change, said in DAMAGE:
        held = json.loads(whole)
        made = change(held)
        file.write_text(json.dumps(made if isinstance(made, dict) and "x" in made else held))
        with pytest.raises(UserError) as caught:
            read_manifest("lab/small", "smoke")
        remedy = "delete it and give `credit table` again: finished runs are kept"
        assert str(caught.value) == f"{file} is damaged ({said}); {remedy}"


def test_equal_runs_of_two_cells_share_their_folder(own: Path) -> None:
    text = SMALL.replace("rule=fa, optimizer.lr=0.02", "rule=bp, optimizer.lr=0.05")
    manifest = expanded(own, text, "smoke")
    assert len(manifest.jobs) == 3
    assert cell(manifest, "clean", "bp").folder == cell(manifest, "clean", "fa").folder


def test_the_command_repeats_the_table_and_the_manifest_survives_its_file(own: Path) -> None:
    manifest = expanded(own, SMALL, "smoke", 2, ("data.augment=[]",))
    assert manifest.command == "credit table lab/small budget=smoke seeds=2 'data.augment=[]'"
    assert "seeds" not in expanded(own, SMALL, "smoke").command
    write_manifest(manifest)
    assert read_manifest("lab/small", "smoke") == manifest


BAD_WORDS = [
    # what is written, instead of what, the piece its line is found by, what is said
    ("optimzer.lr=0.05", "optimizer.lr=0.05", "optimzer", "optimzer.lr=0.05, in cell clean/bp: unknown key 'optimzer': "
     "did you mean 'optimizer'?"),
    ("optimizer.lrr=0.05", "optimizer.lr=0.05", "lrr", "optimizer.lrr=0.05: optimizer=sgd has no such option; did you mean 'lr'?"),
    ("rule=lisp_margn", "rule=lisp_margin", "margn", "unknown rule 'lisp_margn': did you mean 'lisp_margin'?"),
    ("noise=1.4", "noise=0.4", "noise=1.4", "noise.rate=1.4 is outside [0, 1)"),
    ("trainer.epochs=none", "trainer.epochs=3", "[trainer.epochs=none", "trainer.epochs=none, in cell "
     "clean/bp: trainer.epochs=none of trainer is a word: must be a number"),
    ("optimizer.weight_decay=much", "optimizer.weight_decay=0.001", "much", "in cell noisy/margin: "),
    ("optimizer.lr=1,2", "optimizer.lr=0.001", "=1,2", "settings are written key=value"),
    ("'optimizer.lr=1,2'", "optimizer.lr=0.001", "=1,2", "gives several values to one run"),
]  # fmt: skip


@pytest.mark.parametrize(("new", "old", "piece", "said"), BAD_WORDS)
def test_a_setting_that_no_group_has_is_named_with_its_line(
    own: Path, new: str, old: str, piece: str, said: str
) -> None:
    text = SMALL.replace(old, new)
    assert text != SMALL
    with pytest.raises(UserError) as caught:
        expanded(own, text, "quick")
    assert str(caught.value).startswith(f"conf/paper/lab/small.yaml:{line_of(text, piece)}: "), caught.value
    assert said in str(caught.value)


def test_a_word_that_needs_a_later_one_is_not_blamed(own: Path) -> None:
    text = SMALL.replace("optimizer.lr=0.05]", 'schedule=step, "schedule.milestones=[1,2]", optimizer.momentum=2]')
    with pytest.raises(UserError, match=r"optimizer\.momentum=2, in cell clean/bp: optimizer\.momentum=2 is outside"):
        expanded(own, text, "quick")


def test_a_later_check_of_a_run_finds_its_word_too(own: Path) -> None:
    text = SMALL.replace("rule=fa, optimizer.lr=0.02", "rule=fa, optimizer.lr=0.03")
    spec = load(write(own, text))
    manifest = expand(spec, "quick")

    def no_small_rates(config: object) -> None:
        if getattr(config, "optimizer").lr == 0.03:  # noqa: B009 - the check takes any run
            raise UserError("the rate is too small")

    error = blamed(spec, manifest, cell(manifest, "clean", "fa"), UserError("the rate is too small"), no_small_rates)
    line = line_of(text, "optimizer.lr=0.03")
    assert str(error) == f"conf/paper/lab/small.yaml:{line}: optimizer.lr=0.03, in cell clean/fa: the rate is too small"


def test_a_repeat_that_no_group_has_is_refused(own: Path) -> None:
    text = SMALL.replace("cells:", "repeat: {data.split_sed: [0, 7]}\ncells:")
    with pytest.raises(
        UserError, match=r"data\.split_sed=0: data=digits has no such option; did you mean 'split_seed'\?"
    ):
        expanded(own, text, "quick")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("noise=0.2",), "noise=0.2: lab/small compares different ones (row clean: none, row noisy: 0.4)"),
        (("rule=bp",), "(column bp: bp, column margin: lisp_margin, column fa: fa)"),
        (("seed=3",), "seeds=3 on the command line"),
        (("data.split_seed=1",), "the repeats of lab/small run through data.split_seed (0, 7)"),
        (("noise",), "cannot read 'noise'"),
        (("~noise=0",), "cannot read '~noise=0'"),
        (("trainer.epochs=1", "trainer.epochs=2"), "trainer.epochs is given twice"),
        (
            ("optimizer.lrr=1",),
            "optimizer.lrr=1, in cell clean/bp of lab/small: optimizer.lrr=1: optimizer=sgd has no such option",
        ),
        (("noise.rate=0.2",), "noise.rate=0.2, in cell clean/bp of lab/small: noise=none with noise.rate=0.2"),
    ],
)
def test_words_that_a_table_cannot_take_are_refused(own: Path, words: tuple[str, ...], said: str) -> None:
    text = SMALL.replace("cells:", "repeat: {data.split_seed: [0, 7]}\ncells:")
    with pytest.raises(UserError) as caught:
        expanded(own, text, "quick", None, words)
    assert said in str(caught.value)


def test_words_that_make_two_cells_one_run_are_refused(own: Path) -> None:
    text = SMALL.replace("noise=none]", "noise=0.2]")
    with pytest.raises(UserError) as caught:
        expanded(own, text.replace("noise=0.4", "noise=symmetric"), "quick", None, ("noise.kind=none", "noise.rate=0"))
    assert (
        "clean/bp and noisy/bp of lab/small would be one and the same run; they differ in noise.rate (0.2 and 0.4)"
        in str(caught.value)
    )


def test_cells_that_are_the_same_anyway_are_not_held_against_the_words(own: Path) -> None:
    text = SMALL.replace("rule=fa, optimizer.lr=0.02", "rule=bp, trainer.epochs=600, optimizer.lr=0.05")
    assert len(expanded(own, text, "smoke", None, ("trainer.eval_every=2",)).jobs) == 3
    with pytest.raises(UserError, match=r"they differ in trainer\.epochs \(200 and 600\)"):
        expanded(own, text.replace("set: [trainer.epochs=200]", "columns: {bp: [trainer.epochs=200], fa: [trainer.epochs=600]}"),
                 "paper", None, ("trainer.epochs=4",))  # fmt: skip


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seeds_is_refused(own: Path, seeds: int) -> None:
    with pytest.raises(UserError, match=f"seeds={seeds}: give 1 or more"):
        expanded(own, SMALL, "smoke", seeds)


def test_an_unknown_budget_is_refused(own: Path) -> None:
    with pytest.raises(UserError, match=r"budget=quik: did you mean 'quick'\?"):
        expanded(own, SMALL, "quik")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (3, "3"),
        (0.00001, "1e-05"),
        (True, "true"),
        (None, "null"),
        ("vehicle", "vehicle"),
        ("credit-g", "credit-g"),
        ("1", "'1'"),
        ("it's a, b", r"'it\'s a, b'"),
        ([1, "flip", None], "[1,flip,null]"),
    ],
)
def test_a_repeat_is_written_so_that_it_is_read_back(value: object, written: str) -> None:
    word = as_word("data.anything", value)
    assert word == f"data.anything={written}"
    assert OverridesParser.create().parse_override(word).value() == value


FIRST = {name.split("/")[0]: name for name in reversed(names())}.values()
"""A table of each paper; the others are slow, and `make specs` expands them all."""


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in names()]
)
def test_every_table_of_the_project_expands(name: str) -> None:
    spec = load(name)
    manifest = expand(spec, "smoke", seeds=1)
    assert manifest.jobs
    job = manifest.jobs[-1]
    assert compose(job.words).as_dict() == job.config


@pytest.mark.slow
def test_every_table_of_the_project_expands_at_every_budget() -> None:
    for name in names():
        for budget in ("quick", "paper"):
            assert expand(load(name), budget).jobs


@pytest.mark.slow
def test_three_thousand_jobs_expand_in_twenty_seconds(own: Path) -> None:
    rows = "".join(f"  n{i}: {{x: {i}, set: [noise={i / 100 + 0.01:.2f}]}}\n" for i in range(30))
    text = SMALL.replace(SMALL[SMALL.index("  clean: {label") : SMALL.index("columns:")], rows)
    text = text.replace(", rows: [clean]", "").replace(", only: {columns: [bp, fa]}", ", only: {columns: [bp, margin]}")
    start, end = text.index("cells:"), text.index("claims:")
    spec = load(write(own, text[:start] + text[end:]))
    start_s = time.process_time()  # other programs' share of the machine is not ours
    assert len(expand(spec, "smoke", seeds=50).jobs) == 3000
    assert time.process_time() - start_s < 20


def test_the_quick_experiment_is_a_cell_of_figure_3() -> None:
    """Its file says so; only what is measured on the way differs."""
    manifest = expand(load("lisp/fig3"), "quick", seeds=1)
    [cell] = [job for job in manifest.jobs if (job.row, job.column) == ("noise40", "lisp_margin")]
    runs = [decisive(compose(["experiment=lisp_cifar10_quick"])), decisive(check(cell.config))]
    for run in runs:
        for option in ("measure", "measure_every"):
            run["trainer"].pop(option, None)  # left out at its default
    assert runs[0] == runs[1]
