"""Paper 5's tables and figures: what was printed is what the specs hold, settings reach the runs, smoke runs end."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.tables.claims.expression import cells
from credit.tables.spec.claims import claim_rows, claim_tree
from credit.tables.spec.load import load
from credit.tables.spec.schema import BUDGETS
from tests.support.published import runs

TABLES = ("table1", "table2", "table3", "fig4", "fig5", "wall_time")
SIZES = {"table1": (5, 11), "table2": (2, 2), "table3": (1, 2), "fig4": (13, 2), "fig5": (1, 2), "wall_time": (3, 3)}


@pytest.mark.parametrize("name", TABLES)
def test_claims_stand_on_cells_of_the_table_and_name_their_place(name: str) -> None:
    spec = load(f"lra/{name}")
    grid = set(spec.grid())
    assert (len(spec.rows), len(spec.columns)) == SIZES[name] and spec.claims and spec.settings and spec.figures
    for claim in spec.claims:
        found = cells(claim_tree(spec, claim))
        assert all((cell.row or row, cell.column) in grid for cell in found for row in claim_rows(spec, claim) or [""])
        start = claim.says.split(" - ")[0]
        assert start.startswith(("Section ", "Table ", "Appendix", "Conclusion", "Not in the paper")), claim.says
        assert ("(ours)" in claim.name) >= start.startswith("Not in the paper"), claim.name


PRINTED_ERRORS = {
    # row, column: training and test error in per cent
    ("mnist", "bp"): (0.00, 1.48), ("fashion", "bp"): (12.10, 12.98),
    ("mnist", "dtp"): (0.00, 1.86), ("fashion", "dtp"): (21.078, 19.66),
    ("mnist", "eqprop"): (7.59, 9.21), ("fashion", "eqprop"): (16.56, 20.97),
    ("mnist", "lra_e"): (0.16, 1.97), ("fashion", "lra_e"): (9.84, 12.31),
    ("mnist", "fa"): (0.00, 1.85), ("fashion", "fa"): (12.09, 12.89),
    ("mnist", "dfa"): (0.85, 2.75), ("fashion", "dfa"): (12.58, 13.09),
    ("mnist", "rec_lra"): (0.00, 1.82), ("fashion", "rec_lra"): (6.57, 11.87),
    ("mnist", "rec_lra_lrelu"): (0.22, 2.26), ("fashion", "rec_lra_lrelu"): (8.95, 14.13),
    ("mnist", "rec_lra_elu"): (0.09, 1.93), ("fashion", "rec_lra_elu"): (9.39, 13.17),
    ("mnist", "rec_lra_sign"): (0.85, 2.33), ("fashion", "rec_lra_sign"): (12.42, 14.879),
    ("cifar_cnn", "bp"): (1.39, 31.87), ("cifar_cnn", "dtp"): (28.69, 39.47),
    ("cifar_cnn", "fa"): (17.46, 37.44), ("cifar_cnn", "dfa"): (32.74, 44.41),
    ("cifar", "bp"): (5.00, 5.94), ("cifar", "rec_lra"): (5.88, 6.12),
}  # fmt: skip
PRINTED_IMAGENET = {"dtp": (98.34, 94.56), "fa": (93.08, 82.54), "bp": (28.15, 9.81), "rec_lra": (30.48, 11.97)}


def test_table_1_holds_100_minus_the_printed_errors() -> None:
    spec = load("lra/table1")
    train, test, top5 = (spec.published_in(name) for name in ("train_accuracy", "accuracy", "top5"))
    images = {("imagenet", column): errors for column, errors in PRINTED_IMAGENET.items()}
    assert set(train) == set(PRINTED_ERRORS) and set(test) == set(PRINTED_ERRORS) | set(images)
    assert set(top5) == set(images)
    for cell, errors in PRINTED_ERRORS.items():
        assert (train[cell].mean, test[cell].mean) == pytest.approx([100 - error for error in errors], abs=1e-9), cell
    for cell, errors in images.items():
        assert (test[cell].mean, top5[cell].mean) == pytest.approx([100 - error for error in errors], abs=1e-9), cell


def test_tables_2_and_3_hold_the_printed_numbers() -> None:
    printed = {
        ("table2", "bp"): (91.15, 90.24, 89.51, 90.58), ("table2", "rec_lra"): (90.88, 89.96, 89.20, 88.61),
        ("table3", "bp"): (71.84, 70.04, 70.12, 69.96), ("table3", "rec_lra"): (69.52, 67.82, 68.12, 67.52),
    }  # fmt: skip
    for (name, column), numbers in printed.items():
        spec = load(f"lra/{name}")
        row = {"table2": "cifar", "table3": "imagenet"}[name]
        held = [spec.published_in(measure)[row, column].mean for measure in ("accuracy", "f1", "precision", "recall")]
        assert held == list(numbers)


def test_table_1s_perceptrons() -> None:
    kinds = {
        "tp": "target_propagation", "dtp": "target_propagation", "eqprop": "equilibrium", "lra_e": "lra",
        "rec_lra": "lra", "rec_lra_lrelu": "lra", "rec_lra_elu": "lra", "rec_lra_sign": "lra",
    }  # fmt: skip
    activations = {"rec_lra_lrelu": "leaky_relu", "rec_lra_elu": "elu", "rec_lra_sign": "sign"}
    found = runs("lra/table1", rows=("mnist", "fashion"))
    assert len(found) == 22
    for (row, column), cfg in found.items():
        assert cfg.data.kind == {"mnist": "mnist", "fashion": "fashion_mnist"}[row]
        assert (cfg.data.normalize, cfg.data.val_size, cfg.data.batch_size) == ("unit", 2000, 32)
        assert cfg.arch["widths"] == [1024] * 3 and (cfg.arch["init"], cfg.arch["init_std"]) == ("gaussian", 0.05)
        assert cfg.arch["activation"] == activations.get(column, "tanh"), column
        assert (cfg.optimizer.kind, cfg.optimizer.lr, cfg.trainer.epochs) == ("adam", 0.0002, 100)
        assert cfg.rule["reproject"] == 1 and cfg.rule["kind"] == kinds.get(column, "sweep"), column
        if cfg.rule["kind"] == "lra":
            assert (cfg.rule["beta"], cfg.rule["gamma"], cfg.rule["error_update"]) == (0.1, 1.0, "lra_e")
            assert cfg.rule["skip_gap"] == (0 if column == "lra_e" else "auto") and cfg.rule["inner"] == "local"


@pytest.mark.parametrize(("name", "row"), [("table1", "cifar"), ("table2", "cifar"), ("fig5", "cifar")])
def test_cifar_10s_residual_networks(name: str, row: str) -> None:
    for column in ("bp", "rec_lra"):
        cfg = runs(f"lra/{name}", rows=(row,))[row, column]
        data, arch = cfg.data, cfg.arch
        assert (data.preprocess, data.val_size, data.batch_size) == ("gcn_zca", 5000, 10)
        assert (arch["kind"], arch["masks"], arch["noise_level"]) == ("perturbative_resnet", 160, 0.1)
        assert (arch["init"], arch["init_std"], arch["layers"]) == ("gaussian", 1, "perturbative")
        assert (cfg.optimizer.lr, cfg.trainer.epochs) == (0.0001, 100)
        assert cfg.rule.get("inner") == ("backprop" if column == "rec_lra" else None)


@pytest.mark.parametrize(
    ("name", "row", "other", "of"),
    [
        ("table2", "cifar", "table1", "cifar"), ("fig5", "cifar", "table2", "cifar"),
        ("table3", "imagenet", "table1", "imagenet"), ("fig4", "imagenet", "table3", "imagenet"),
    ],
)  # fmt: skip
def test_networks_told_to_be_the_same_are_one_run(name: str, row: str, other: str, of: str) -> None:
    for budget in BUDGETS:
        here, there = runs(f"lra/{name}", budget, (row,)), runs(f"lra/{other}", budget, (of,))
        for column in ("bp", "rec_lra"):
            if (row, column) in here:  # imagenet's curves are of budget paper alone
                assert here[row, column].as_dict() == there[of, column].as_dict(), budget


def test_figure_4_is_a_grid_of_data_units_and_deviations() -> None:
    found = {cell: cfg for cell, cfg in runs("lra/fig4").items() if cell[0] != "imagenet"}
    grid = {(cfg.data.kind, cfg.arch["activation"], cfg.arch["init_std"], cfg.rule["name"]) for cfg in found.values()}
    assert len(grid) == len(found) == 2 * 2 * 3 * 2
    assert {deviation for _, _, deviation, _ in grid} == {0.025, 0.05, 0.1}
    for (row, _), cfg in found.items():
        assert cfg.arch["widths"] == [256] * 8 and cfg.trainer.epochs == 100 and cfg.optimizer.lr == 0.0002
        named = re.fullmatch(r"(mnist|fashion)_(\w+)_s(\d_\d+)", row)
        assert named is not None
        kind, unit, deviation = named.groups()
        assert cfg.data.kind.startswith(kind) and cfg.arch["activation"] == unit
        assert cfg.arch["init_std"] == float(deviation.replace("_", "."))
    assert not runs("lra/fig4", "quick", ("imagenet",))


def test_smaller_budgets_read_the_sample_of_imagenet() -> None:
    for name in ("table1", "table3", "wall_time"):
        for budget, path in (("smoke", "imagenet_sample"), ("quick", "imagenet_sample"), ("paper", "ILSVRC2012")):
            data = runs(f"lra/{name}", budget, ("imagenet",))["imagenet", "bp"].data
            assert (data.path, data.image_size) == (path, 224 if budget == "paper" else 64)


def test_smoke_judges_nothing_and_quick_not_where_trainings_end() -> None:
    for name in TABLES:
        spec = load(f"lra/{name}")
        judged = {budget: {c.name for c in spec.claims if spec.budgets[budget].judges(c)} for budget in BUDGETS}
        assert not judged["smoke"] and judged["quick"] and judged["paper"] == {claim.name for claim in spec.claims}
        assert not {label for label in judged["quick"] if "close" in label or "fits" in label}


@pytest.mark.slow
def test_figure_4_by_the_real_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = smoke("fig4", capsys)
    assert "12 jobs (12 cells, 1 seed)" in told and "failed" not in told
    files = sorted((tmp_path / "runs" / "tables" / "lra-fig4-smoke").glob("figure*.png"))
    assert len(files) == 4 and all(file.stat().st_size > 5000 for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table1", "table2", "table3", "fig5", "wall_time"])
def test_smoke_runs_end(
    name: str, need_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDIT_DATA", str(need_data("cifar10", "imagenet_sample")))
    told = smoke(name, capsys)
    assert "report:" in told and "failed" not in told


def smoke(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a table's smoke budget by the real command and return what it shows."""
    assert credit(["table", f"lra/{name}", "budget=smoke", "trainer.device=cpu", "hydra.launcher.jobs=1"]) == 0
    return capsys.readouterr().out
