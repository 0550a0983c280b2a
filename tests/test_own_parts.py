"""A part of one's own is one Python file and at most ten lines of YAML, outside the package: each is counted, and used."""

import json
from pathlib import Path

import pytest

from credit.cli import main, train
from credit.core import registry
from credit.core.user_files import use_folders

SHORT = ["arch.widths=[8]", "data.limit_train=96", "trainer.epochs=1", "trainer.device=cpu", "trainer.progress=false"]

RULE = """
import torch
import torch.nn.functional as F

import credit
from credit.rules.outcome import Computed


@credit.register("rule", "guess")
class Guess(credit.Rule):
    def compute(self, params, buffers, x, y, draws):
        run = self._run(params, buffers, draws)
        logits = self.plan.forward(run, x)
        updates = {name: torch.zeros_like(p) for name, p in params.items()}
        loss = F.cross_entropy(logits, y)
        return Computed(logits, loss, updates)
"""
GATE = """
import credit


@credit.rules.gate("soft")
def soft(pre, post):
    return 1 / (1 + pre.abs())
"""
FEEDBACK = """
import credit
from torch.nn.functional import one_hot


@credit.rules.feedback("shy")
def shy(logits, y):
    return logits.tanh() * (one_hot(y, logits.shape[1]) - logits.sigmoid())
"""
ARCH = """
from torch import nn


def tiny(shape, classes, *, width: int = 6):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))
"""
DATA = """
import numpy as np


def blobs(*, spread: float = 1.0):
    draw, y = np.random.default_rng(0), np.arange(200) % 3
    x = draw.normal(size=(200, 4)) * spread + 3 * np.eye(3, 4)[y]
    return x[:150], y[:150], x[150:], y[150:]
"""
NOISE = """
import torch


def shifted(labels, rate, classes, generator, *, by: int = 1):
    chosen = torch.rand(len(labels), generator=generator) < rate
    return torch.where(chosen, (labels + by) % classes, labels)
"""
DIAGNOSTIC = """
from credit.diagnostics import Diagnostic


class Norms(Diagnostic):
    def after(self, x, y, outcome):
        return {"sum": float(sum(p.detach().norm() for p in self.run.model.parameters()))}
"""
FIGURE = """
from credit.tables.figures.canvas import Canvas


def blank(figure, held):
    canvas = Canvas(figsize=(2, 2))
    canvas.text(0.5, 0.5, figure.title)
    return canvas
"""
TABLE = """# One run
{title: One run, source: nowhere, measures: [accuracy], accuracy: last, split: digits,
 common: [data=digits, arch=mlp, "arch.widths=[8]", data.limit_train=96, trainer.device=cpu],
 rows: {clean: {label: clean, set: [noise=none]}}, columns: {bp: {label: BP, set: [rule=bp]}},
 published: {clean: {bp: 94}}, figures: [{kind: blank, title: Mine}],
 budgets: {smoke: {says: It runs., seeds: 1, set: [trainer.epochs=1]}, quick: {says: The same., seeds: 1},
           paper: {says: Whole., seeds: 1}}}
"""

PARTS = {
    "rule": ({"rule/guess.py": RULE}, {"rule/guess.yaml": "# Learns nothing\nkind: guess\nname: guess\n"}, ["rule=guess"]),
    "gate": (
        {"gate/soft.py": GATE},
        {"rule/softly.yaml": "# Backprop with soft gates\ndefaults: [sweep, _self_]\nname: softly\ngate: soft\n"},
        ["rule=softly"],
    ),
    "feedback": (
        {"feedback/shy.py": FEEDBACK},
        {"rule/shyly.yaml": "# LFP, shy\ndefaults: [lfp_epsilon, _self_]\nname: shyly\nfeedback: shy\n"},
        ["rule=shyly"],
    ),
    "arch": ({"arch/tiny.py": ARCH}, {"arch/tiny.yaml": "# Tiny\nkind: tiny\nwidth: 5\n"}, ["rule=bp", "arch=tiny"]),
    "data": ({"data/blobs.py": DATA}, {"data/blobs.yaml": "# Blobs\nkind: blobs\nbatch_size: 16\n"}, ["rule=bp", "data=blobs"]),
    "noise": (
        {"noise/shifted.py": NOISE},
        {"noise/shifted.yaml": "# Shifted\nkind: shifted\nrate: 0.4\nby: 2\n"},
        ["rule=bp", "noise=shifted"],
    ),
    "diagnostic": ({"diagnostic/norms.py": DIAGNOSTIC}, {}, ["rule=bp", "trainer.measure=[norms]"]),
    "figure": ({"figure/blank.py": FIGURE}, {"paper/lab/one.yaml": TABLE}, []),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The folder with the files of one part."""
    code, settings, _ = PARTS[request.param]
    for name, text in {**code, **settings}.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with registry.temporary():
        yield tmp_path / "mine"
        use_folders([])


@pytest.mark.parametrize(("folder", "part"), [(name, name) for name in PARTS], indirect=["folder"])
def test_a_part_is_one_file_and_ten_lines(folder: Path, part: str, tmp_path: Path) -> None:
    code, settings, words = PARTS[part]
    assert len(code) == 1 and len(settings) <= 1
    assert all(len(text.strip().splitlines()) <= 10 for text in settings.values())
    if part == "figure":
        assert main.main(["table", "lab/one", "budget=smoke", "--config-dir", str(folder)]) == 0
        assert list((tmp_path / "runs").rglob("*.png"))
        return
    small = [word for word in SHORT if not (part in ("arch", "data") and word.startswith(("arch.", "data.limit")))]
    assert train.main(["--config-dir", str(folder), *words, *small]) == 0
    [result] = (tmp_path / "runs").glob("*/result.json")
    assert json.loads(result.read_text())["status"] == "complete"
    made_from = json.loads((result.parent / "made_from.json").read_text())["code"]
    assert set(made_from) == set(code)
    if part == "diagnostic":
        rows = [json.loads(line) for line in (result.parent / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["norms"]["sum"] > 0
    if part == "noise":
        config = json.loads((result.parent / "config.json").read_text())["config"]
        assert config["noise"] == {"kind": "shifted", "rate": 0.4, "seed": None, "by": 2}
