"""A table's file becomes a `Spec`, and whatever is wrong with it is refused with file, line and nearest valid name."""

from pathlib import Path

import pytest

from credit.core import registry
from credit.core.errors import UserError
from credit.tables.spec.load import load, names
from credit.tables.spec.schema import Published, Words
from tests.support.written import SMALL, line_of, write


def test_every_part_is_read(own: Path) -> None:
    spec = load(write(own, SMALL))
    assert (spec.name, spec.title, spec.accuracy, spec.test) == ("lab/small", "Digits under noise", "last", "welch")
    assert spec.measures == ("accuracy", "gap")
    assert spec.common == Words(("data=digits", "arch=mlp", "arch.widths=[8]"), (7, 7, 7))
    assert spec.rows["noisy"].x == 40 and spec.rows["noisy"].set.words == ("noise=0.4",)
    assert spec.columns["fa"].label == "fa" and spec.columns["fa"].rows == ("clean",)
    assert spec.grid() == [("clean", "bp"), ("clean", "margin"), ("clean", "fa"), ("noisy", "bp"), ("noisy", "margin")]
    assert spec.cells[("noisy", "margin")].words == ("optimizer.weight_decay=0.001",)
    assert spec.published[("clean", "bp")] == Published(94.0, 3.3, None, line_of(SMALL, "clean: {bp"))
    assert spec.published[("clean", "margin")] == Published(95, 1, 5, line_of(SMALL, "clean: {bp"))
    assert spec.published[("noisy", "margin")].std == 0.2
    assert spec.claims[1].grows == "margin - bp" and spec.claims[1].line == line_of(SMALL, "grows:")
    assert spec.figures[1].columns == ("bp", "margin")
    assert spec.budgets["smoke"].listed("columns") == ("bp", "fa") and spec.budgets["smoke"].listed("rows") == ()
    assert spec.budgets["quick"].settings("columns")["margin"].words == ("optimizer.lr=0.001",)
    assert spec.budgets["quick"].minutes == 1 and spec.budgets["paper"].minutes is None


def test_a_budget_lists_rows_or_gives_them_settings(own: Path) -> None:
    both = SMALL.replace("only: {columns: [bp, fa]}", "rows: {clean: [trainer.epochs=2]}, columns: [bp]")
    budget = load(write(own, both)).budgets["smoke"]
    assert budget.settings("rows")["clean"].words == ("trainer.epochs=2",)
    assert budget.listed("columns") == ("bp",) and budget.settings("columns") == {}


def test_a_budget_may_judge_some_claims_only(own: Path) -> None:
    text = SMALL.replace("{says: It runs., seeds: 1,", "{says: It runs., seeds: 1, claims: [],")
    spec = load(write(own, text.replace("minutes: 1,", "minutes: 1, claims: [steeper],")))
    judged = {name: [budget.judges(claim) for claim in spec.claims] for name, budget in spec.budgets.items()}
    assert judged == {"smoke": [False, False], "quick": [False, True], "paper": [True, True]}


def test_a_name_with_a_star_stands_for_all_that_match(own: Path) -> None:
    text = SMALL.replace(
        "fa: {set: [rule=fa, optimizer.lr=0.02], rows: [clean]}", 'fa: {set: [rule=fa], rows: ["c?ean"]}'
    )
    text = text.replace(
        "columns: {margin: [optimizer.lr=0.001]}", 'columns: {"*": [optimizer.lr=1], m*: [optimizer.lr=2]}'
    )
    text = text.replace("compare: margin > best(bp, 50)", 'compare: margin > best(bp, 50)\n    at: ["n*", "*", clean]')
    spec = load(write(own, text.replace("only: {columns: [bp, fa]}", 'only: {columns: ["?p", fa]}')))
    assert spec.columns["fa"].rows == ("clean",)
    assert spec.claims[0].at == ("noisy", "clean")
    assert spec.budgets["smoke"].listed("columns") == ("bp", "fa")
    by_column = {name: words.words for name, words in spec.budgets["quick"].settings("columns").items()}
    assert by_column == {
        "bp": ("optimizer.lr=1",),
        "margin": ("optimizer.lr=1", "optimizer.lr=2"),
        "fa": ("optimizer.lr=1",),
    }


def test_published_numbers_may_stand_as_the_paper_prints_them(own: Path) -> None:
    text = SMALL.replace("published:", "printed: {times: 100, n: 20}\npublished:").replace(
        "94.0 ± 3.3", "0.9663 (0.007)"
    )
    text = text.replace("mean: 95, std: 1, n: 5", "mean: 0.9, std: .01, n: 5").replace("bp: 81.9", "bp: 0.5841")
    found = load(write(own, text)).published
    assert found[("clean", "bp")] == Published(96.63, 0.7, 20, line_of(text, "clean: {bp"))
    assert (found[("clean", "margin")].mean, found[("clean", "margin")].std, found[("clean", "margin")].n) == (90, 1, 5)
    assert (found[("noisy", "bp")].mean, found[("noisy", "bp")].std) == (58.41, None)


def test_contradictions_and_what_a_diverged_run_counts_as_are_read(own: Path) -> None:
    more = "contradictions:\n  - {says: A, but: B, reading: C}\ndiverged: {as: 9.9, why: it answers one class}\ncells:"
    spec = load(write(own, SMALL.replace("cells:", more)))
    assert spec.contradictions[0].but == "B" and spec.contradictions[0].line == line_of(SMALL, "cells:") + 1
    assert spec.diverged is not None and (spec.diverged.as_, spec.diverged.why) == (9.9, "it answers one class")


def test_names_describes_every_table_and_the_users_own_goes_first(own: Path) -> None:
    write(own, SMALL)
    write(own, SMALL.removeprefix("# A small table\n"), "lab/untold")
    assert names()["lab/small"] == "A small table"
    assert names()["lab/untold"] == "Digits under noise"
    assert "lisp/fig3" in names()
    write(own, SMALL, "lisp/fig3")
    assert load("lisp/fig3").title == "Digits under noise"


def test_an_unknown_table_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown table 'lisp/fgi3': did you mean 'lisp/fig3'\?"):
        load("lisp/fgi3")
    with pytest.raises(UserError, match=r"unknown table '\.\./config'"):
        load("../config")


def test_every_table_of_the_project_loads() -> None:
    for name in names():
        assert load(name).name == name


CELL = "claim 'better': no cell noisy/fa: column 'fa' has only clean"

WRONG = [
    ('rows: ["x*"]', "rows: [clean]", 'rows: ["x*"]', "unknown row 'x*' in columns.fa.rows: none matches"),
    ("of: spred\n    grows:", "grows:", "of: spred", "claims.of=spred: did you mean 'spread'?"),
    ("printed: {times: 0}\npublished:", "published:", "printed:", "printed.times=0 is outside (0, inf): factor"),
    ("diverged: {as: 9}\ncells:", "cells:", "diverged:", "'why' is missing in diverged: it needs as, why"),
    ("kind: gates,", "kind: bars,", "kind: gates,", "column 'bp' has no `runner: gates`, which measures one"),
    # what is written, instead of what, the line it is found by, what is said
    ("colums:\n", "columns:\n", "colums:", "unknown key 'colums': did you mean 'columns'?"),
    ("  bp: {lable: BP,", "  bp: {label: BP,", "{lable", "unknown key 'lable' in columns.bp: did you mean 'label'?"),
    ("", "split: the digits of scikit-learn\n", "title:", "'split' is missing from the file"),
    ("", "    says: The gap grows.\n", "- name: steeper", "'says' is missing in claims"),
    ("title: [a]", "title: Digits under noise", "title:", "title is a list: it must be text"),
    ("title:", "title: Digits under noise", "title:", "'title' is missing"),
    ("measures: accuracy", "measures: [accuracy, gap]", "measures:", "measures is 'accuracy': it must be a list"),
    ("measures: []", "measures: [accuracy, gap]", "measures:", "measures is empty: name at least one"),
    ("measures: [acuracy]", "measures: [accuracy, gap]", "measures:", "did you mean 'accuracy'?"),
    ("accuracy: lats", "accuracy: last", "accuracy:", "accuracy=lats: did you mean 'last'?"),
    ("title: Twice\nsource:", "source:", "title: Twice", "'title' is given twice, first on line 2: keep one"),
    ("test: welsh\nsplit:", "split:", "test:", "did you mean 'welch'?"),
    ("  bp-2: {", "  bp: {", "  bp-2: {", "'bp-2' in columns is no name"),
    ("  12: {", "  bp: {", "  12: {", "'12' in columns is a number"),
    ("x: much", "x: 40", "x: much", "rows.noisy.x=much is a word: must be a number"),
    ("x: .nan", "x: 40", "x: .nan", "rows.noisy.x=.nan is a word: must be a number"),
    ("set: noise=0.4", "set: [noise=0.4]", "set: noise=0.4", "rows.noisy.set is 'noise=0.4': it must be a list"),
    ("set: [noise: 0.4]", "set: [noise=0.4]", "set: [noise: ", "settings are written key=value"),
    ("set: [noise]", "set: [noise=0.4]", "set: [noise]", "cannot read 'noise': settings are written key=value"),
    ("[rule=lisp_margin, seed=1]", "[rule=lisp_margin]", "seed=1", "'seed=1': seeds are counted"),
    ("runner: tain, set: [rule=fa", "set: [rule=fa", "runner:", "did you mean 'train'?"),
    ("rows: [claen]", "rows: [clean]", "rows: [claen]", "unknown row 'claen' in columns.fa.rows: did you mean 'clean'?"),
    ("runner: timing, options: {against: pb}, rows: [clean]", "rows: [clean]", "against",
     "unknown column 'pb': did you mean 'bp'?"),
    ("BP, runner: timing, options: {against: fa}", "BP", "against", "columns.bp: no cell noisy/fa: column 'fa' has only clean"),
    ("  niosy: {margin: [opt", "  noisy: {margin: [opt", "  niosy", "unknown row 'niosy' in cells: did you mean 'noisy'?"),
    ("  noisy: {fa: [opt", "  noisy: {margin: [opt", "  noisy: {fa", "cells.noisy: no cell noisy/fa"),
    ("{bq: 81.9", "{bp: 81.9", "{bq: 81.9", "unknown column 'bq' in published.noisy: did you mean 'bp'?"),
    ("{fa: 81.9", "{bp: 81.9", "{fa: 81.9", "no cell noisy/fa: column 'fa' has only clean"),
    ("81.9 %", "81.9", "81.9 %", 'published.noisy.bp is \'81.9 %\': write a number, "94.0 ± 3.3"'),
    ("std: -1", "std: 1", "std: -1", "published.clean.margin.std=-1 is outside [0, inf): standard deviation"),
    ("n: 0", "n: 5", "n: 0", "published.clean.margin.n=0 is outside [1, inf): number of runs"),
    ("compare: margin > bq", "compare: margin > best(bp, 50)", "bq", "unknown column 'bq': did you mean 'bp'?"),
    ("compare: margin > clena/bp", "compare: margin > best(bp, 50)", "clena", "unknown row 'clena': did you mean 'clean'?"),
    ("compare: margin > noisy/fa", "compare: margin > best(bp, 50)", "noisy/fa", CELL),
    ("compare: margin > fa\n    at: [noisy]", "compare: margin > best(bp, 50)", "margin > fa", CELL),
    ("compare: margin = bp", "compare: margin > best(bp, 50)", "margin =", "cannot read 'margin = bp': '=' has no meaning"),
    ("compare: margin", "compare: margin > best(bp, 50)", "compare:", "after its left side belongs one of"),
    ("compare: 1 > 2", "compare: margin > best(bp, 50)", "1 > 2", "it speaks of no cell"),
    ("compare: margin ~ bp", "compare: margin > best(bp, 50)", "~", "`~` needs a tolerance"),
    ("at: [nosy]\n    compare:", "compare:", "nosy", "unknown row 'nosy' in claims.at: did you mean 'noisy'?"),
    ("at_least: 3\n    compare:", "compare:", "compare:", "at_least: 3 of 2 rows cannot hold"),
    ("falls: bp\n    compare:", "compare:", "- name: better", "needs exactly one of compare, grows, falls"),
    ("", "    compare: margin > best(bp, 50)\n", "- name: better", "needs exactly one of compare, grows, falls"),
    ("grows: margin > bp", "grows: margin - bp", "grows:", "one side is wanted here"),
    ("grows: clean/margin", "grows: margin - bp", "grows:", "two rows or more with different x"),
    ("{label: 40 %, set", "{label: 40 %, x: 40, set", "grows:", "row 'noisy' has no x (line 10)"),
    ("measure: gapp\n    compare:", "compare:", "gapp", "did you mean 'gap'?"),
    ("- name: better", "- name: steeper", "grows:", "two claims are named 'better'"),
    ("kind: bar,", "kind: bars,", "kind: bar", "unknown figure 'bar' in figures.kind: did you mean 'bars'?"),
    ("columns: [bq, margin]}", "columns: [bp, margin]}", "bq", "unknown column 'bq' in figures.columns: did you mean"),
    ("rows: [noisy], columns: [fa]}", "columns: [bp, margin]}", "By noise", "no cell noisy/fa"),
    ("rows: [noisy]}", "columns: [bp, margin]}", "By noise", "lines need two rows or more with different x"),
    ("  quik: {says: S", "  quick: {says: S", "quik", "unknown budget 'quik' in budgets: did you mean 'quick'?"),
    ("", "  quick: {says: Small., seeds: 2, minutes: 1, set: [trainer.epochs=3], columns: {margin: [optimizer.lr=0.001]}}\n",
     "budgets:", "budgets: 'quick' is missing: a table needs smoke, quick, paper"),
    ("seeds: 1.5", "seeds: 1", "seeds: 1.5", "budgets.smoke.seeds=1.5 is a number: must be a whole number in [1, inf)"),
    ("seeds: 0", "seeds: 1", "seeds: 0", "budgets.smoke.seeds=0 is outside [1, inf): seeds of a cell"),
    ("minutes: 1, claims: [steper]", "minutes: 1", "claims: [steper]",
     "unknown claim 'steper' in budgets.quick.claims: did you mean 'steeper'?"),
    ("minutes: 0", "minutes: 1", "minutes: 0", "budgets.quick.minutes=0 is outside (0, inf): duration"),
    ("columns: {magrin:", "columns: {margin:", "magrin", "unknown column 'magrin' in budgets.quick.columns: did you mean"),
    ("only: {columns: [pb]}", "only: {columns: [bp, fa]}", "pb", "unknown column 'pb' in budgets.smoke.only.columns"),
    ("only: {rows: [noisy], columns: [fa]}", "only: {columns: [bp, fa]}", "fa]}", "no cell is in these rows and columns"),
    ("columns: [bp], only: {columns: [bp]}", "only: {columns: [bp, fa]}", "columns: [bp]", "restricts its columns twice"),
    ("common: [data.augment=[flip]]", 'common: [data=digits, arch=mlp, "arch.widths=[8]"]', "data.augment",
     "Put a word with brackets in quotes"),
    ("options: {against: bp}, rows: [clean]", "rows: [clean]", "against",
     "columns.fa: options.against=bp: the runner train has no such option; there are no choices"),
    ("runner: timing, options: {agianst: bp}, rows: [clean]", "rows: [clean]", "agianst",
     "columns.fa: options.agianst=bp: the runner timing has no such option; did you mean 'against'?"),
    ("runner: gates, options: {reach: far}, rows: [clean]", "rows: [clean]", "reach",
     "columns.fa: options.reach=far of the runner gates is a word: must be a number in (0, 1000]"),
    ("runner: trees, rows: [clean]", "rows: [clean]", "runner: trees", "options.model is missing"),
    ("runner: trees, options: {modle: xgboost}, rows: [clean]", "rows: [clean]", "modle",
     "columns.fa: options.modle=xgboost: the runner trees has no such option; did you mean 'model'?"),
    ("rows: []}", "rows: [clean]}", "rows: []", "columns.fa.rows is empty: name at least one row, or leave it out"),
    ("only: {columns: []}", "only: {columns: [bp, fa]}", "only: {columns: []}", "budgets.smoke.only.columns is empty"),
    ("columns: []}", "columns: [bp, margin]}", "columns: []}", "figures.columns is empty: name at least one column"),
    ("  best: {label: BP,", "  bp: {label: BP,", "  best: {", "'best' in columns: in claims that is best(a, b)"),
    ("  best: {label: 0", "  clean: {label: 0", "  best: {", "'best' in rows: in claims that is best(a, b)"),
    ("label: BP, set: [rule=lisp_m", "label: LISP, set: [rule=lisp_m", "  margin: {label",
     "two columns are labelled 'BP', bp and margin: give one another label"),
    ("label: 0 %, x: 40", "label: 40 %, x: 40", "  noisy: {label", "two rows are labelled '0 %', clean and noisy"),
    ('["hydra.launcher.jobs=2", noise=0.4]', "[noise=0.4]", "hydra",
     "'hydra.launcher.jobs=2': how runs are launched is no part of a table: give it to `credit table lab/small`"),
    ('["hydra/launcher=joblib", noise=0.4]', "[noise=0.4]", "hydra", "how runs are launched is no part of a table"),
    ("94.0 ± -3.3", "94.0 ± 3.3", "clean: {bp", "published.clean.bp is '94.0 ± -3.3': a standard deviation is at least 0"),
    ("tolerance: 1\n    compare: margin > best(bp, 50)", "compare: margin > best(bp, 50)", "compare:",
     "tolerance: `>` has none; it is what `>=`, `<=` and `~` allow"),
    ("tolerance: 1\n    grows:", "grows:", "grows:", "tolerance: growing and falling has none"),
    ("compare: bp > bp", "compare: margin > best(bp, 50)", "bp > bp", "a cell is compared with itself: name two different ones"),
    ("compare: bp ~ bp\n    tolerance: 1", "compare: margin > best(bp, 50)", "bp ~ bp", "a cell is compared with itself"),
    ("compare: bp - bp >= 0", "compare: margin > best(bp, 50)", "bp - bp", "a cell is compared with itself"),
    ("compare: clean/bp > bp", "compare: margin > best(bp, 50)", "clean/bp > bp",
     "at row clean a cell is compared with itself: leave the row out, in `at`"),
    ("compare: best(bp, margin) >= bp", "compare: margin > best(bp, 50)", "best(bp", "a cell is compared with itself"),
    ("compare: best(bp, bp) > margin", "compare: margin > best(bp, 50)", "best(bp", "`best` has one option twice"),
    ("compare: best(bp, clean/bp) > margin", "compare: margin > best(bp, 50)", "best(bp", "`best` has one option twice"),
    ("compare: best(bp, 40) > 50", "compare: margin > best(bp, 50)", "best(bp", "`best` may be its number"),
    ("grows: bp - bp", "grows: margin - bp", "grows:", "claim 'steeper': a cell is compared with itself"),
    ("measures: [accuracy, alignment]", "measures: [accuracy, gap]", "measures:",
     'alignment is measured by no run of the table: add "trainer.measure=[alignment]" to its `common`'),
    ("measure: mean.descent.holds\n    compare:", "compare:", "compare:", "mean.descent.holds is measured by no run of the table"),
    ("measure: decsent.S\n    compare:", "compare:", "decsent.S", "did you mean 'descent'?"),
    ("kind: layers,", "kind: bars,", "kind: layers", "alignment is measured by no run of the table"),
    ("kind: layers, measure: gap,", "kind: bars,", "kind: layers", "layers always shows the alignment: leave `measure` out"),
    ("kind: curves, measure: total_seconds,", "kind: bars,", "kind: curves",
     "total_seconds is one number a run and has no course by epoch: use bars or lines"),
    ("kind: signals,", "kind: bars,", "kind: signals", "column 'bp' has no `runner: shattering`, which measures one"),
    ("kind: pruning,", "kind: bars,", "kind: pruning", 'add "trainer.measure=[pruning]" to its `common`'),
    ("kind: pruning, measure: accuracy,", "kind: bars,", "kind: pruning",
     "pruning shows the curve of one of the diagnostics pruning, pruning_by_layer, not accuracy"),
    ("kind: confusion, measure: gap,", "kind: bars,", "kind: confusion",
     "confusion always shows the confusion matrix: leave `measure` out"),
    ("kind: embedding, measure: gap,", "kind: bars,", "kind: embedding",
     "embedding always shows t-SNE's points: leave `measure` out"),
    ("kind: embedding,", "kind: bars,", "kind: embedding", 'add "trainer.measure=[embedding]" to its `common`'),
    ("kind: steps, measure: total_seconds,", "kind: bars,", "kind: steps", "has no course by epoch"),
    ("kind: stairs,", "kind: bars,", "kind: stairs", "unknown figure 'stairs' in figures.kind"),
    ("repeat: {data.fold: []}\ncommon:", "common:", "repeat:", "repeat.data.fold is empty"),
    ("repeat: {data: [digits]}\ncommon:", "common:", "repeat:", "'data' is no option"),
    ("repeat: {seed: [1, 2]}\ncommon:", "common:", "repeat:", "seeds are counted by each budget's `seeds`"),
    ("repeat: {data.split_seed: [1, 1]}\ncommon:", "common:", "repeat:", "1 is given twice"),
    ("repeat: {optimizer.lr: [1, 2]}\ncommon:", "common:", "lr=0.05", "the repeats run through optimizer.lr"),
]  # fmt: skip


@pytest.mark.parametrize(("new", "old", "piece", "said"), WRONG)
def test_what_is_wrong_is_named_with_file_and_line(own: Path, new: str, old: str, piece: str, said: str) -> None:
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    with pytest.raises(UserError) as caught:
        load(write(own, text))
    assert str(caught.value).startswith(f"conf/paper/lab/small.yaml:{line_of(text, piece)}: "), caught.value
    assert said in str(caught.value)


def test_what_cancels_at_some_rows_may_still_grow(own: Path) -> None:
    assert load(write(own, SMALL.replace("grows: margin - bp", "falls: margin - clean/margin"))).claims[1].falls
    assert load(write(own, SMALL.replace("margin > best(bp, 50)", "clean/bp - bp > 1\n    at: [noisy]"))).claims[0].at


def test_a_diagnostic_is_measured_where_any_setting_asks_for_it(own: Path) -> None:
    layers = SMALL.replace("kind: bars,", "kind: layers,")
    for word in ('"trainer.measure=[descent,alignment]"', "trainer=mine", "experiment=mine"):
        assert load(write(own, layers.replace("[rule=lisp_margin]", f"[rule=lisp_margin, {word}]"))).figures


MINE = """\
from dataclasses import dataclass
from credit.core.registry import register

@register("runner", "mine")
class Mine:
    @dataclass(frozen=True)
    class Options:
        depth: int = 3
"""


def test_options_of_a_users_runner_are_checked_by_their_class(own: Path) -> None:
    (own / "runner").mkdir()
    (own / "runner" / "mine.py").write_text(MINE)
    text = SMALL.replace("set: [rule=fa", "runner: mine, options: {depth: 4}, set: [rule=fa")
    assert load(write(own, text)).columns["fa"].options == {"depth": 4}
    with pytest.raises(
        UserError, match=r"columns.fa: options.dpth=4: the runner mine has no such option; did you mean 'd"
    ):
        load(write(own, text.replace("depth:", "dpth:")))


def test_every_kind_of_figure_can_be_drawn() -> None:
    for name in registry.built_in("figure"):
        assert callable(registry.find("figure", name).load())


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words", "a: {b: 1", "\tb: 1"])
def test_a_file_that_is_no_table_is_refused_with_its_line(own: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"^conf/paper/lab/small\.yaml:1: "):
        load(write(own, text))
