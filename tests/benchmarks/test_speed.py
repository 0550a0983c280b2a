"""The bench measures what it says: bytes exactly, times as ratios."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import credit
from credit.benchmarks import spiking
from credit.benchmarks.speed import compare, satisfied
from credit.cli import bench
from credit.cli.benches import spiking as bench_spiking
from credit.core.errors import UserError
from credit.models import build
from credit.training.backends.memory import peak_bytes


def test_peak_bytes_counts_what_is_held_at_once() -> None:
    x = torch.zeros(1000)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        a = x + 1  # 4000 bytes
        b = a.double()  # 8000 more while a lives
        del a
        c = b[:10] + 1  # 80 more, after a is gone
        del b, c

    assert peak_bytes(step, x, x) == 12000


def test_views_and_in_place_ops_hold_nothing_more() -> None:
    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        a = (x + 1).view(10, 100).t().mul_(2).relu_()
        del a

    assert peak_bytes(step, torch.zeros(1000), torch.zeros(1)) == 4000


def test_autograd_keeps_what_a_sweep_drops() -> None:
    model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.ReLU())], nn.Linear(64, 10))
    ratio = compare("bp", model, torch.randn(256, 64), torch.randint(0, 10, (256,)), seconds=0.2)
    assert ratio.memory is not None and ratio.memory <= 1.0
    assert ratio.pairs >= 5 and ratio.low <= ratio.time <= ratio.high


def test_the_command_writes_its_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    words = [
        "--rules",
        "bp,dfa",
        "--archs",
        "mlp",
        "--seconds",
        "0.1",
        "--no-data",
        "--replicas",
        "0",
        "--json",
        str(out),
    ]
    assert bench.main(words) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["rule"], row["arch"], row["mode"]) for row in rows] == [
        ("bp", "mlp", "eager"),
        ("dfa", "mlp", "eager"),
    ]
    assert "peak memory" in capsys.readouterr().out


def test_the_share_of_satisfied_samples_is_real() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 5))
    x = torch.randn(40, 6)
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        y, margin = satisfied(model, x, share)
        z = model(x)
        others = z.scatter(1, y.unsqueeze(1), -torch.inf).amax(1)
        met = z.gather(1, y.unsqueeze(1)).squeeze(1) - others >= margin
        assert int(met.sum()) == round(share * 40)
        step = credit.rule("lisp_margin", model, margin=margin).step(x, y)
        assert float(step.signals["output.active"]) == pytest.approx(1 - share, abs=1e-6)


def test_satisfied_rows_stand_beside_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    words = [
        "--rules",
        "bp",
        "--archs",
        "mlp",
        "--seconds",
        "0.05",
        "--no-data",
        "--replicas",
        "0",
        "--json",
        str(out),
        "--satisfied",
        "50,90",
    ]
    assert bench.main(words) == 0
    rows = json.loads(out.read_text())["satisfied"]
    told = [(row["batch"], row["satisfied"], row["target"]) for row in rows]
    assert told == [(128, 50, 0.7), (128, 90, 0.4), (512, 50, 0.7), (512, 90, 0.4)]
    assert rows[3]["time"] < 1
    assert "meet the margin" in " ".join(capsys.readouterr().out.split())
    for wrong in ("50,120", "half"):
        with pytest.raises(UserError, match=f"--satisfied {wrong}: shares are per cent from 0 to 100"):
            bench.main(["--satisfied", wrong])


@pytest.mark.skipif(not spiking.installed(), reason="snntorch is not installed (it is in the extra 'dev')")
def test_spiking_rows_are_measured_over_snntorch(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench_spiking, "BATCHES", (4,))
    monkeypatch.setattr(bench_spiking, "STEPS", 3)
    words = ["--archs", "spiking_lenet", "--rules", "bp,dfa", "--satisfied", "", "--no-data", "--replicas", "0"]
    assert bench.main([*words, "--seconds", "0.1", "--json", str(tmp_path / "bench.json")]) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["rows"] == [] and [(row["rule"], row["batch"]) for row in report["spiking"]] == [("bp", 4)]
    assert report["spiking"][0]["memory"] < 1
    assert "snnTorch" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(spiking, "installed", lambda: False)
    assert bench.main([*words, "--json", str(tmp_path / "bench.json")]) == 0
    assert "spiking_lenet left out: snntorch" in capsys.readouterr().out


@pytest.mark.skipif(not spiking.installed(), reason="snntorch is not installed (it is in the extra 'dev')")
def test_the_yardstick_is_the_same_network() -> None:
    model = build({"kind": "spiking_lenet", "steps": 6, "reset": "zero"}, (1, 16, 16), 4, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
        x = torch.randn(5, 1, 16, 16)
        counts = model(x)
        assert isinstance(model, nn.Sequential) and counts.any()
        theirs = spiking.InSnnTorch(model)(x)
    assert theirs.shape == (6, 5, 4) and torch.equal(theirs.sum(0), counts)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UserError, match="--rules dffa: did you mean 'dfa'"):
        bench.main(["--rules", "dffa"])
    with pytest.raises(UserError, match="--archs lenet: did you mean 'lenet5'"):
        bench.main(["--archs", "lenet"])
    with pytest.raises(UserError, match="--modes compile: did you mean 'compiled'"):
        bench.main(["--modes", "eager,compile"])
    with pytest.raises(UserError, match="--device mps: credit is tested on cpu and cuda"):
        bench.main(["--device", "mps"])


def test_a_rule_is_measured_with_the_options_written_behind_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = "dp_adjoint+schedule=fw+passes=3+alpha=[0.5,0.0,1.0]"
    line = ["--rules", rule, "--archs", "mlp", "--seconds", "0.1", "--satisfied", "", "--replicas", "0", "--no-data"]
    assert bench.main([*line, "--json", str(tmp_path / "b.json")]) == 0
    assert [row["rule"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]] == [rule]
    with pytest.raises(UserError, match="needs rule.passes=3"):
        bench.main([rule.replace("passes=3", "passes=2") if word == rule else word for word in line])


def test_rules_are_measured_on_their_papers_networks() -> None:
    untied = [name for name in bench.TARGETS if "untied" in name or "jam" in name]
    lfp = ["lfp_epsilon", "lfp_zpm", "lfp_alphabeta"]
    others = ["bp", "lisp_raw", "lisp_margin", "lisp_ce", "fa", "dfa"]
    dual = ["dp", "dp_adjoint", "dp_adjoint+schedule=fw+passes=5", "dp_adjoint+schedule=fw+passes=16"]
    settled = ["eqprop", "eqprop+phases=3"]
    whole = [*others, *untied, *lfp, *dual, *settled]
    blocks = ["rec_lra+inner=backprop", "rec_lra+inner=backprop+workers=2"]
    targeted = ["rec_lra", "lra_e", "tp", "dtp"]
    assert list(bench.TARGETS) == [*whole, *targeted, *blocks]
    assert bench.usual("lenet5") == whole and bench.usual("mlp") == [*whole, *targeted]
    assert bench.usual("perturbative_resnet") == ["bp", *blocks]
    assert bench.usual("lenet5_sigmoid") == ["bp", *untied]
    assert bench.usual("cifar_resnet") == others
    assert bench.usual("vgg16") == [
        "bp",
        *lfp,
        "dp",
        "dp_adjoint",
        "dp_adjoint+schedule=fw+passes=16",
    ]  # five passes do not reach
    model, x, y = bench._problem("lenet5_sigmoid", "cpu", 8)
    assert model(x).shape == (8, 10) and y.shape == (8,) and isinstance(model.get_submodule("act1"), nn.Sigmoid)
