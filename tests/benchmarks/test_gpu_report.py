"""``make gpu`` measures and reports, here with the CPU in the GPU's place."""

import json
from pathlib import Path

import pytest
import torch

from credit.cli.benches import gpu, replicas
from credit.rules import api

SETTINGS = ["data=digits", "arch=mlp", "arch.widths=[8]", "data.limit_train=96", "trainer.epochs=3"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    monkeypatch.setattr(replicas, "NETWORKS", {"suc": ({"kind": "suc"}, (5,), 2)})
    monkeypatch.setattr("credit.sweeps.jobs.cores", lambda: 1)
    return tmp_path


def reported(runs: Path, *words: str) -> dict:
    flags = ["--device", "cpu", "--archs", "mlp", "--rules", "bp", "--replicas", "2", "--seconds", "0.05"]
    assert gpu.main([*flags, *words, *SETTINGS]) == 0
    assert [path.name for path in runs.iterdir()] == ["reports"]
    return json.loads((runs / "reports" / "gpu" / "report.json").read_text())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_without_a_gpu_it_ends_with_a_sentence(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "this machine has no GPU that torch can use" in told.err
    assert list(runs.iterdir()) == []


def test_the_report_has_epochs_steps_and_replicas(runs: Path) -> None:
    found = reported(runs, "--modes", "eager", "rule=bp", "trainer.precision=bf16,float32")
    rows = found["training"]
    assert sorted((row["rule"], row["precision"]) for row in rows) == [("bp", "bf16"), ("bp", "float32")]
    assert all(row["seconds_per_epoch"] > 0 and row["epochs"] == 3 and row["device"] == "cpu" for row in rows)
    assert [(row["arch"], row["rule"], row["mode"], row["skipped"]) for row in found["steps"]] == [
        ("mlp", "bp", "eager", 0)
    ]
    assert [(row["network"], row["rule"]) for row in found["replicas"]] == [("suc", "bp"), ("suc", "untied_constant")]
    facts = found["provenance"]
    page = (runs / "reports" / "gpu" / "report.md").read_text()
    for fact in (facts["versions"]["torch"], facts["commit"] or "", rows[0]["data_digest"], rows[0]["command"]):
        assert fact in page
    assert facts["command"].startswith("make gpu 'ARGS=--device cpu")


def test_its_rules_and_networks_are_those_of_the_package() -> None:
    for name in [*gpu.BENCH["--rules"].split(","), *gpu.TRAINING["rule"].split(",")]:
        assert name in api.names()


def test_a_training_that_is_refused_ends_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "rule=lisp_margn"]) == 2
    assert "did you mean 'lisp_margin'" in capsys.readouterr().err and list(runs.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_modes_that_torch_cannot_do_are_marked(runs: Path) -> None:
    """There are no CUDA graphs on the CPU."""
    found = reported(runs, "--modes", "eager,compiled,graphs", "rule=bp", "trainer.precision=float32")
    for rows in (found["steps"], found["replicas"]):
        assert all((row["skipped"] > 0) == (row["mode"] == "graphs") for row in rows)
        assert {row["mode"] for row in rows} == {"eager", "compiled", "graphs"}
