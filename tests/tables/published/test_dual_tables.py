"""Paper 3's tables and figures: settings reach the runs, published numbers are those printed, smoke runs end."""

import re
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.core.options import of_class
from credit.tables import options as runners
from credit.tables.claims.expression import cells
from credit.tables.spec import schema
from credit.tables.spec.claims import claim_rows, claim_tree
from credit.tables.spec.load import load
from credit.tables.spec.schema import BUDGETS
from credit.training.schedules import learning_rate
from tests.support.published import runs

TABLES = ("table1", "table2", "table3", "fig2", "fig3", "imagenet32")
SIZES = {"table1": (2, 9), "table2": (2, 4), "table3": (8, 4), "fig2": (1, 2), "fig3": (1, 2), "imagenet32": (1, 2)}


@pytest.mark.parametrize("name", TABLES)
def test_claims_stand_on_cells_of_the_table_and_name_their_section(name: str) -> None:
    spec = load(f"dual/{name}")
    grid = set(spec.grid())
    assert (len(spec.rows), len(spec.columns)) == SIZES[name] and spec.claims and spec.settings and spec.figures
    for claim in spec.claims:
        found = cells(claim_tree(spec, claim))
        assert all((cell.row or row, cell.column) in grid for cell in found for row in claim_rows(spec, claim) or [""])
        start = claim.says.split(" - ")[0]
        assert start.startswith(("Section ", "Table ", "Appendix ")) and "the same" not in claim.says.lower(), (
            claim.says
        )


PRINTED = [
    ("accuracy", "mnist", "dp_a1", 95.85, 0.68), ("accuracy", "mnist", "dp_a0_input", 98.43, 0.11),
    ("accuracy", "mnist", "bp_fgsm", 98.43, 0.04), ("accuracy", "fashion", "dp_a0", 89.16, 0.43),
    ("accuracy", "fashion", "dpt_a0_5", 88.35, 0.37), ("lipschitz", "mnist", "dp_a1", 522, 288),
    ("lipschitz", "mnist", "dp_a0", 29.9, 4.2), ("lipschitz", "mnist", "dpt_a0", 43.2, 19.4),
    ("lipschitz", "fashion", "dp_a0_input", 8.05, 1.03), ("lipschitz", "fashion", "bp", 37.7, 10.2),
]  # fmt: skip


@pytest.mark.parametrize(("measure", "row", "column", "mean", "std"), PRINTED)
def test_table_1_holds_the_printed_numbers(measure: str, row: str, column: str, mean: float, std: float) -> None:
    spec = load("dual/table1")
    held = spec.published_in(measure)
    assert set(held) == set(spec.grid())
    assert (held[row, column].mean, held[row, column].std, held[row, column].n) == (mean, std, 3)


def test_tables_2_and_3_and_imagenet32_hold_what_is_left_of_theirs() -> None:
    assert not load("dual/table2").published
    table = load("dual/table3").published
    assert {(row, column): (held.mean, held.mark) for (row, column), held in table.items()} == {
        ("c10_b1", "a0"): (91.34, ""), ("c10_b1", "a0_5"): (None, "X"), ("c10_b1", "a1"): (None, "X"),
        ("c10_b0_1", "a0"): (92.41, ""), ("c10_b0_1", "a0_5"): (89.3, "†"), ("c10_b0_1", "a1"): (None, "X"),
        ("c10_b0_01", "a0"): (92.26, ""), ("c10_b0_01", "a0_5"): (92.19, ""), ("c10_b0_01", "a1"): (92.19, ""),
        ("c10", "bp"): (92.36, ""),
    }  # fmt: skip
    image = load("dual/imagenet32")
    top1, top5 = (image.published_in(name)["imagenet32", "a0_5"] for name in ("accuracy", "top5"))
    assert ((top1.mean, top1.std), (top5.mean, top5.std)) == ((41.59, 0.11), (65.63, 0.19))


def test_table_1s_rules_and_network() -> None:
    held = runs("dual/table1")
    wanted = {
        "dp_a1": ("original", True, 1, 15, "prox"), "dp_a0_5": ("original", False, 0.5, 5, "prox"),
        "dp_a0": ("original", True, 0, 15, "prox"), "dp_a0_input": ("original", True, 0, 15, "prox"),
        "dpt_a1": ("adjoint", False, 1, 5, "current"), "dpt_a0_5": ("adjoint", False, 0.5, 5, "current"),
        "dpt_a0": ("adjoint", False, 0, 5, "current"),
    }  # fmt: skip
    for (_, column), cfg in held.items():
        assert cfg.arch["widths"] == [512, 512] and cfg.arch["init"] == "lecun" and cfg.data.normalize == "unit"
        assert (cfg.optimizer.kind, cfg.optimizer.lr, cfg.trainer.epochs, cfg.data.batch_size) == (
            "adam",
            0.001,
            20,
            50,
        )
        rule = cfg.rule
        if column in wanted:
            found = (rule["variant"], rule["damped"], rule["alpha"], rule["passes"], rule["nudge"])
            assert found == wanted[column], column
            assert (rule["beta"], rule["loss"], rule["schedule"]) == (0.5, "half_sse", "fwbw")
            assert rule["input_robustness"] == (column == "dp_a0_input")
        else:
            assert rule["loss"] == "half_sse"
        assert cfg.trainer.adversarial_epsilon == (0.01 if column == "bp_fgsm" else None)


def test_figure_3s_runs_are_those_of_table_2() -> None:
    for budget in BUDGETS:
        table, figure = runs("dual/table2", budget), runs("dual/fig3", budget)
        assert figure and all(cfg.as_dict() == table[cell].as_dict() for cell, cfg in figure.items())
    rules = {
        cell: (cfg.rule["name"], cfg.rule["alpha"], cfg.rule["passes"]) for cell, cfg in runs("dual/table2").items()
    }
    assert rules["passes30", "dp_a1"] == ("dp", 1, 30) and rules["passes1", "dpt_a0"] == ("dp_adjoint", 0, 1)
    assert all(not cfg.rule["damped"] for cfg in runs("dual/table2").values())


def test_vgg_runs_have_table_4s_hyper_parameters() -> None:
    wanted = {"cifar10": (0.025, 100, 130, 120), "cifar100": (0.015, 50, 200, 190), "imagenet32": (0.02, 250, 130, 120)}
    for name in ("table3", "fig2", "imagenet32"):
        for (_, column), cfg in runs(f"dual/{name}").items():
            schedule = cfg.schedule
            numbers = (cfg.optimizer.lr, cfg.data.batch_size, cfg.trainer.epochs, schedule.decay_epochs)
            assert list(numbers) == list(wanted[cfg.data.kind]), (name, column)
            assert (schedule.warmup_epochs, schedule.initial_lr, schedule.final_lr) == (10, 0.001, 2e-6)
            assert (cfg.optimizer.momentum, cfg.optimizer.weight_decay) == (0.9, 5e-4)
            assert cfg.trainer.stop_when == "collapsed" and cfg.data.val_split == "last"
            assert cfg.arch["norm"] == "none" and cfg.arch["dense"] == [4096, 4096] and cfg.arch["init"] == "lecun"
            if column != "bp":
                rule = cfg.rule
                assert (rule["name"], rule["schedule"], rule["passes"], rule["nudge"]) == (
                    "dp_adjoint",
                    "fw",
                    16,
                    "frozen",
                )
                assert rule["loss"] == "ce"
    grid = {
        (row, column): (cfg.rule["beta"], cfg.rule["alpha"])
        for (row, column), cfg in runs("dual/table3").items()
        if column != "bp"
    }
    assert len(grid) == 18 and len(set(grid.values())) == 9 and grid["c100_b0_01", "a0_5"] == (0.01, 0.5)
    assert runs("dual/fig2")["c100", "b1"].trainer.measure_first == 200


def test_the_page_on_tables_tells_every_key_and_the_papers_measures() -> None:
    page = (Path(__file__).parents[3] / "conf" / "paper" / "README.md").read_text()
    used = {name.removeprefix("max.") for table in TABLES for name in load(f"dual/{table}").measures}
    used |= {
        claim.measure.removeprefix("max.")
        for table in TABLES
        for claim in load(f"dual/{table}").claims
        if claim.measure
    }
    assert used > {
        "top5",
        "log_lipschitz",
        "angle",
        "largest_angle",
        "early_angle",
        "angle_fall",
        "difference_share",
        "diverged",
    }
    sections = [*vars(schema).values(), *vars(runners).values()]
    keys = {
        key.rstrip("_")
        for one in sections
        if isinstance(one, type) and is_dataclass(one)
        for key, it in of_class(one).items()
        if it.meta.doc
    }
    assert keys > {"title", "x", "runner", "at_least", "as", "trials", "without", "mean", "times", "lags"}
    for name in (*used, *keys):
        assert re.search(rf"\b{name}\b", page), name


def test_short_runs_of_vgg_judge_no_accuracy() -> None:
    for name in ("table3", "fig2", "imagenet32"):
        spec = load(f"dual/{name}")
        judged = {budget: [c for c in spec.claims if spec.budgets[budget].judges(c)] for budget in BUDGETS}
        assert judged["paper"] == list(spec.claims) and not judged["smoke"]
        assert len(judged["quick"]) == {"table3": 2, "fig2": 2, "imagenet32": 0}[name]
        for claim in judged["quick"]:
            assert "angle" in (claim.measure or spec.measures[0])


def test_table_3_in_small_is_all_of_cifar_10_and_nothing_else() -> None:
    rows = ["c10_b1", "c10_b0_1", "c10_b0_01", "c10"]
    assert list(dict.fromkeys(row for row, _ in runs("dual/table3", "quick"))) == rows
    assert {cfg.data.kind for cfg in runs("dual/table3", "quick").values()} == {"cifar10"}
    for figure in load("dual/table3").figures:
        wanted = rows if figure.title.startswith("CIFAR-10:") else [row.replace("c10", "c100") for row in rows]
        assert sorted(figure.rows) == sorted(wanted), figure.title


def test_short_vgg_runs_have_one_rate() -> None:
    for name in ("table3", "fig2", "imagenet32"):
        for cfg in runs(f"dual/{name}", "quick").values():
            steps = cfg.trainer.steps or 0
            rates = {learning_rate(cfg.schedule, cfg.optimizer.lr, step, steps, 450) for step in range(steps)}
            assert steps and rates == {0.001}


@pytest.mark.slow
def test_figure_3_by_the_real_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = smoke("fig3", capsys)
    assert "2 jobs (2 cells, 1 seed)" in told and "aligned with backprop, α 0" in told
    files = sorted((tmp_path / "runs" / "tables" / "dual-fig3-smoke").glob("figure*.png"))
    assert [file.name for file in files] == [f"figure{number}.png" for number in (1, 2, 3, 4)]
    assert all(file.stat().st_size > 5000 for file in files)


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_smoke_runs_on_the_digits_end(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = smoke(name, capsys)
    assert "complete" in told and "failed" not in told


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [("table3", "cifar10"), ("fig2", "cifar100"), ("imagenet32", "cifar10")])
def test_smoke_runs_of_vgg_end(
    name: str,
    file: str,
    need_data: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CREDIT_DATA", str(need_data(file)))
    told = smoke(name, capsys)
    assert "complete" in told and "failed" not in told


def smoke(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a table's smoke budget by the real command and return what it shows."""
    assert credit(["table", f"dual/{name}", "budget=smoke", "trainer.device=cpu", "hydra.launcher.jobs=1"]) == 0
    return capsys.readouterr().out
