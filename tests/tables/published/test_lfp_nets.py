"""Paper 2's tables of CIFAR-10, VGG-16 and spiking networks: settings reach the runs, claims stand on cells, smoke runs run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.tables.claims.expression import cells
from credit.tables.spec.claims import claim_rows, claim_tree
from credit.tables.spec.load import load
from credit.tables.spec.schema import BUDGETS
from tests.support.published import runs

TABLES = ("fig2", "fig3", "fig4", "figA4", "figA5", "figA6", "table1")
SIZES = {
    "fig2": (6, 2),
    "fig3": (2, 6),
    "fig4": (2, 3),
    "figA4": (18, 3),
    "figA5": (6, 1),
    "figA6": (2, 6),
    "table1": (54, 3),
}


@pytest.mark.parametrize("name", TABLES)
def test_claims_stand_on_cells_of_the_table_and_name_their_section(name: str) -> None:
    spec = load(f"lfp/{name}")
    grid = set(spec.grid())
    assert (len(spec.rows), len(spec.columns)) == SIZES[name]
    assert spec.claims and spec.settings and not spec.published  # no figure's number can be read
    for claim in spec.claims:
        found = cells(claim_tree(spec, claim))
        assert all((cell.row or row, cell.column) in grid for cell in found for row in claim_rows(spec, claim) or [""])
        assert claim.says.split(" - ")[0].startswith(("Section ", "Table ", "Figure ")), claim.says


def test_figure_2s_networks_and_rates() -> None:
    held = runs("lfp/fig2")
    assert {cfg.optimizer.lr for cfg in held.values()} == {0.1, 0.01, 0.001}
    for (row, column), cfg in held.items():
        assert cfg.arch["dropout"] == 0.5 and cfg.data.batch_size == 32 and cfg.trainer.epochs == 20
        assert cfg.optimizer.kind == "sgd" and cfg.optimizer.momentum == 0.9 and cfg.schedule.kind == "constant"
        assert cfg.arch.get("widths", [512, 256, 128]) == [512, 256, 128] and row.startswith(("mlp", "lenet"))
        assert cfg.rule.get("dropout") == ("gradient" if column == "lfp" else None)
    quick = runs("lfp/fig2", "quick")
    assert all(quick[cell].optimizer == held[cell].optimizer for cell in quick) and quick.keys() == held.keys()


def test_figure_3_and_a6_are_of_the_same_runs() -> None:
    one, other = load("lfp/fig3"), load("lfp/figA6")
    for budget in BUDGETS:
        assert runs("lfp/fig3", budget) == runs("lfp/figA6", budget)
        assert one.budgets[budget].seeds == other.budgets[budget].seeds
    held = runs("lfp/fig3")
    assert held["pretrained", "lfp_zpm"].arch["pretrained"] is True
    assert held["scratch", "bp"].data.image_size == 224 and len(held["scratch", "bp"].data.classes or ()) == 20
    assert {cfg.optimizer.kind for cfg in held.values()} == {"adam"}
    assert {cfg.optimizer.lr for cfg in held.values()} == {0.0001}
    assert held["scratch", "lfp_epsilon_zpm"].rule["composite"] == {"conv": "zpm"}


def test_what_holds_beside_every_composite_is_claimed_beside_each() -> None:
    """`best` of several is their largest, which one of them is enough for."""
    others = ("lfp_epsilon", "lfp_zpm", "lfp_epsilon_zpm", "lfp_epsilon_alphabeta")
    behind = {claim.compare for claim in load("lfp/fig3").claims if claim.name.startswith("pretrained α2β1")}
    assert behind == {f"lfp_alphabeta < {column}" for column in others}
    still = {claim.compare for claim in load("lfp/figA6").claims if claim.name.startswith("z⁺z⁻ moves less")}
    assert still == {f"lfp_zpm < {column}" for column in ("bp", *others) if column != "lfp_zpm"}
    signs = {claim.compare for claim in load("lfp/fig3").claims if "changes more signs" in claim.name}
    assert signs == {f"{column} > best(lfp_zpm, lfp_alphabeta)" for column in others if column != "lfp_zpm"}


def test_spiking_runs_are_clipped_and_have_table_1s_settings() -> None:
    best = {"lfp_epsilon": (0.001, 0.9), "lfp_zpm": (0.0001, 0.9), "bp": (0.001, 0.6)}
    for (_, column), cfg in runs("lfp/fig4").items():
        assert (cfg.optimizer.lr, cfg.arch["beta"]) == best[column] and cfg.arch["steps"] == 25
    for name in ("fig4", "figA4", "figA5", "table1"):
        for (_, column), cfg in runs(f"lfp/{name}").items():
            assert cfg.rule["clip_unit"] == 0.06 and cfg.optimizer.kind == "adam" and cfg.data.batch_size == 128
            assert cfg.rule.get("normalizer") == ("none" if column == "bp" else "max_abs")
    grid = {(c.arch["kind"], c.optimizer.lr, c.arch["beta"], c.arch["steps"]) for c in runs("lfp/table1").values()}
    assert len(grid) == 54
    assert {cfg.optimizer.lr for cfg in runs("lfp/figA4").values()} == {0.01}
    assert {cfg.arch["steps"] for cfg in runs("lfp/figA5").values()} == {5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("fig2", "cifar10"),
        ("fig3", "imagenet_sample"),
        ("fig4", "mnist"),
        ("figA4", "mnist"),
        ("figA5", "mnist"),
        ("table1", "mnist"),
    ],
)
def test_smoke_runs_end(
    name: str,
    files: str,
    need_data: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CREDIT_DATA", str(need_data(files)))
    assert credit(["table", f"lfp/{name}", "budget=smoke", "hydra.launcher.jobs=1"]) == 0
    told = capsys.readouterr().out
    assert "complete" in told and "failed" not in told
