"""Replicas' speed is measured on both sides alike, and the bench says what it cannot do."""

import json
from pathlib import Path

import pytest

from credit.benchmarks.throughput import Problem, Speedup, compare_replicas
from credit.cli import bench
from credit.cli.benches import replicas
from credit.core.errors import UserError

MLP = Problem({"kind": "mlp", "widths": [8]}, (6,), 3, "bp", batch=4, replicas=6)


def test_a_pass_of_tiny_networks_beats_the_loop() -> None:
    found = compare_replicas(MLP, seconds=0.3, blocks=3)
    assert found.processes is None and found.blocks == 3 and found.autograd_ms > 0
    assert found.mapped is not None and found.mapped > 1 and found.chosen == found.mapped
    assert found.difference is not None and found.difference < 1e-5


def test_processes_are_measured_too() -> None:
    found = compare_replicas(MLP, seconds=0.2, processes=2, blocks=1)
    assert found.processes is not None and found.processes > 0
    assert Speedup(None, 1.6, 1.0, 1).chosen == 1.6


def test_the_bench_prints_and_writes_the_rows(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(replicas, "NETWORKS", {"suc": ({"kind": "suc"}, (5,), 2)})
    monkeypatch.setattr("credit.sweeps.jobs.cores", lambda: 1)
    words = ["--archs", "mlp", "--rules", "bp", "--satisfied", "", "--no-data", "--seconds", "0.1", "--replicas", "3"]
    assert bench.main([*words, "--json", str(tmp_path / "bench.json")]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["replicas"]
    assert [(row["rule"], row["replicas"], row["batch"], row["target"]) for row in rows] == [
        ("bp", 3, 32, 5.0),
        ("untied_constant", 3, 32, 5.0),
    ]
    assert "3 replicas, batch 32, cpu" in capsys.readouterr().out


@pytest.mark.parametrize("count", ["1", "-2"])
def test_one_replica_is_no_comparison(count: str) -> None:
    with pytest.raises(UserError, match=rf"--replicas {count}: give 2 or more seeds"):
        bench.main(["--replicas", count])
