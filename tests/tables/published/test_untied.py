"""The untied paper's tables: what was published is what the specs hold, settings reach the runs, claims stand on cells."""

from pathlib import Path
from typing import Any

import pytest

from credit.cli.main import main as credit
from credit.core.config import check
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.tables.claims.expression import cells
from credit.tables.expand.jobs import expand
from credit.tables.expand.manifest import read_manifest
from credit.tables.measures.collect import collect
from credit.tables.runners import gates
from credit.tables.spec.claims import claim_rows, claim_tree
from credit.tables.spec.load import load, names
from tests.support.published import runs

TABLES = [name for name in names() if name.startswith("untied/")]
SHAPES = {2: (12, 2), 3: (9, 4), 4: (12, 3), 5: (12, 5), 6: (15, 3), 7: (15, 3), 8: (15, 3), 9: (12, 2), 10: (12, 3),
          11: (4, 3), 13: (12, 2), 14: (6, 4)}  # fmt: skip
"""Rows and columns of each published table."""

PRINTED = [
    # table, row, column, mean and standard deviation as printed
    (2, "d2_b32_lr0_01", "tied", 0.9938, 0.003),
    (2, "d100_b64_lr0_01", "constant", 0.9859, 0.003),
    (3, "b64_lr0_1", "h64_tied", 0.5841, 0.344),
    (3, "b128_lr0_1", "h32_untied", 0.8732, 0.041),
    (4, "b512_lr0_05", "constant", 0.7175, 0.303),
    (4, "b1024_lr0_1", "rect", 0.9655, 0.030),
    (5, "b256_lr0_1", "tied", 0.9003, 0.262),
    (5, "b1024_lr0_005", "logistic", 0.5075, 0.011),
    (5, "b512_lr0_01", "triangle", 0.9022, 0.002),
    (6, "b32_lr0_001", "log", 0.4790, 0.1134),
    (6, "b64_lr0_02", "relu", 0.1006, 0.0064),
    (7, "b128_lr0_001", "relu", 0.5203, 0.2741),
    (7, "b32_lr0_02", "linear", 0.0981, 0.0014),
    (8, "b32_lr0_02", "log", 0.9845, 0.0010),
    (8, "b64_lr0_01", "relu", 0.9558, 0.0061),
    (9, "b256_lr0_1", "relu", 0.7716, 0.2898),
    (10, "b32_lr1_2", "full", 0.8231, 0.0032),
    (10, "b128_lr0_1", "positive", 0.3574, 0.0305),
    (11, "b256_lr0_1", "clipped", 0.8514, 0.178),
    (13, "d2_b64_lr0_1", "logistic", 1.0000, 0.000),
    (13, "d100_b64_lr0_01", "logistic", 0.9517, 0.009),
    (14, "b512_lr0_01", "constant", 0.7298, 0.054),
    (14, "b1024_lr0_1", "rect", 0.9765, 0.002),
]


@pytest.mark.parametrize(("table", "row", "column", "mean", "std"), PRINTED)
def test_published_numbers_are_those_printed_in_per_cent(
    table: int, row: str, column: str, mean: float, std: float
) -> None:
    held = load(f"untied/table{table}").published[row, column]
    assert (held.mean, held.std, held.n) == (round(100 * mean, 10), round(100 * std, 10), 20)


@pytest.mark.parametrize("table", SHAPES)
def test_every_published_row_and_column_is_there(table: int) -> None:
    published = load(f"untied/table{table}").published
    rows, columns = ({cell[axis] for cell in published} for axis in (0, 1))
    assert (len(rows), len(columns)) == SHAPES[table] and len(published) == len(rows) * len(columns)
    assert all(held.mean is not None and 0 <= held.mean <= 100 and held.n == 20 for held in published.values())


def test_all_tables_and_figures_of_the_issue_are_there() -> None:
    wanted = [*(f"table{n}" for n in SHAPES), "fig6", "fig7", "fig8", "transformers"]
    assert sorted(TABLES) == sorted(f"untied/{name}" for name in wanted)


@pytest.mark.parametrize("name", TABLES)
def test_claims_stand_on_cells_of_the_table_and_name_their_section(name: str) -> None:
    spec = load(name)
    grid = set(spec.grid())
    assert spec.claims and spec.settings and spec.contradictions
    for claim in spec.claims:
        found = cells(claim_tree(spec, claim))
        assert all((cell.row or row, cell.column) in grid for cell in found for row in claim_rows(spec, claim) or [""])
        start = claim.says.split(" - ")[0]
        known = ("Section ", "Table ", "Figure ", "Proposition ", "Not in the paper", "The same")
        assert start.startswith(known), claim.says


@pytest.mark.slow
def test_the_paper_budget_has_twenty_seeds() -> None:
    for table in SHAPES:
        assert load(f"untied/table{table}").budgets["paper"].seeds == 20


def test_a_quick_lenet_keeps_rates_and_the_number_of_steps() -> None:
    for table in (4, 14):
        paper, quick = (runs(f"untied/table{table}", budget) for budget in ("paper", "quick"))
        for cell, here in quick.items():
            there = paper[cell]
            assert (here.optimizer, here.trainer.epochs, here.rule) == (
                there.optimizer,
                there.trainer.epochs,
                there.rule,
            )
            assert here.data.limit_train is not None
            assert 56_000 / there.data.batch_size == here.data.limit_train / here.data.batch_size


def test_table_3_steps_by_the_sum_of_a_batch_and_beside_it_by_its_mean() -> None:
    held = runs("untied/table3", "paper")
    for batch in (32, 64, 128):
        for rate in (0.01, 0.05, 0.1):
            row = f"b{batch}_lr{str(rate).replace('.', '_')}"
            assert held[row, "h64_tied"].optimizer.lr == pytest.approx(rate * batch, rel=1e-12)
            assert held[row, "h64_tied_mean"].optimizer.lr == rate
            assert held[row, "h64_tied"].data.drop_last


def test_the_tables_train_as_the_settings_say() -> None:
    table4, table6, table14 = (runs(f"untied/table{n}", "paper") for n in (4, 6, 14))
    one = table4["b256_lr0_005", "tied"]
    assert (one.optimizer.momentum, one.trainer.epochs, one.schedule.kind) == (0.9, 30, "constant")
    assert (one.data.test_fraction, one.data.split_seed, one.data.val_fraction) == (0.2, None, 0)
    assert (one.arch["variant"], one.arch["activation"]) == ("untied", "sigmoid")
    jammed = table6["b32_lr0_001", "linear"]
    assert (jammed.optimizer.momentum, jammed.trainer.epochs, jammed.rule["gate"]) == (0, 20, "jam_full")
    assert jammed.arch["activation"] == "identity"
    stepped = table14["b256_lr0_1", "triangle"]
    assert (stepped.optimizer.momentum, stepped.arch["activation"], stepped.rule["shape"]) == (0, "step", "paper")


def test_gates_are_measured_as_networks_see_them(own: Path) -> None:
    held = {cell[1]: gates.run(config, {"reach": 6})["gate"] for cell, config in runs("untied/fig6", "smoke").items()}
    assert set(held["constant"]["factor"]) == {1.0}
    assert (held["rect"]["from"], held["rect"]["to"], set(held["rect"]["factor"])) == (-0.5, 0.5, {0.0, 1.0})
    triangle = dict(zip(held["triangle"]["z"], held["triangle"]["factor"], strict=True))
    assert (triangle[0.0], triangle[2.0], triangle[-3.0], triangle[4.0]) == (0.25, 0.125, 0.0625, 0.0)
    assert held["tied"]["from"] == 0.05  # ReLU's derivative is 0 at 0


def test_jamming_is_drawn_in_its_interval_anew_for_each_seed(own: Path) -> None:
    spec = load("untied/fig8")
    held: dict[str, list[dict[str, Any]]] = {}
    for job in expand(spec, "smoke").jobs:
        held.setdefault(job.column, []).append(gates.run(check(job.config), job.options)["gate"])
    assert [gate["from"] for gate in held["rect"]] == [-5, -5, -5]
    assert [gate["from"] for gate in held["positive"]] == [0, 0, 0]
    factors = held["full"][0]["factor"]
    assert min(factors) >= 0 and max(factors) < 1 and len(set(factors)) > 390
    assert factors != held["full"][1]["factor"]


REFUSED = [
    ({"reach": 0}, ["rule=untied_rectangle"], "options.reach=0 is outside (0, 1000]: the largest |z| to show"),
    ({}, ["rule=lisp_margin"], "rule.normalizer=rms is more than a gate: write rule.normalizer=none"),
    ({}, ["rule=bp", "arch.activation=step"], "rule.gate=derivative cannot take step"),
    ({}, ["rule=bp", "arch=timm"], "arch=timm has no arch.activation to measure a gate at: write arch=mlp"),
]


@pytest.mark.parametrize(("options", "words", "said"), REFUSED)
def test_what_shows_no_gate_is_refused(options: dict[str, int], words: list[str], said: str) -> None:
    config = compose(["data=digits", *words])
    with pytest.raises(UserError) as caught:
        gates.refuse(config, options)
    assert said in str(caught.value)


@pytest.mark.slow
def test_figure_8_by_the_real_command(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert credit(["table", "untied/fig8", "budget=smoke"]) == 0
    shown = capsys.readouterr().out
    assert "held             Rectangular-Jamming begins at -5: -5.000 in every repeat (n = 3)" in shown
    folder = own.parent / "runs" / "tables" / "untied-fig8-smoke"
    page = (folder / "report.md").read_text()
    assert "Where the paper contradicts itself" in page and (folder / "figure1.png").stat().st_size > 5000


@pytest.mark.slow
def test_table_13_by_the_real_command(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert credit(["table", "untied/table13", "budget=smoke"]) == 0
    assert "24 jobs (24 cells, 1 seed)" in capsys.readouterr().out
    spec = load("untied/table13")
    held = collect(spec, read_manifest("untied/table13", "smoke"))
    assert held.status() == {"complete": 24}
