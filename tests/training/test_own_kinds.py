"""Networks, data, noise, optimizers, schedules and diagnostics of one's own: a file in a folder, and its name."""

import json
from pathlib import Path

import pytest
import torch

import credit
from credit.cli.listing import option_table
from credit.core import registry
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.core.user_files import use_folders
from credit.data import load
from credit.data.sources.own import arrays
from credit.runs import run_folder
from credit.runs.metrics import read_metrics
from credit.training import train

FILES = {
    "arch/mynet.py": """
import torch
from torch import nn

class MyNet(nn.Module):
    def __init__(self, shape, classes, *, width: int = 12):
        super().__init__()
        self.flatten, self.fc, self.act = nn.Flatten(), nn.Linear(torch.Size(shape).numel(), width), nn.ReLU()
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.act(self.fc(self.flatten(x))))
""",
    "data/blobs.py": """
import numpy as np

def blobs(*, spread: float = 1.0, features: int = 6):
    draw = np.random.default_rng(0)
    y = np.arange(400) % 3
    x = draw.normal(size=(400, features)) * spread + 3 * np.eye(3, features)[y]
    return x[:300], y[:300], x[300:], y[300:]
""",
    "noise/shifted.py": """
import credit
import torch

@credit.register("noise", "shifted")
def shift(labels, rate, classes, generator, *, by: int = 1):
    chosen = torch.rand(len(labels), generator=generator) < rate
    return torch.where(chosen, (labels + by) % classes, labels)
""",
    "optimizer/signs.py": """
import credit
import torch

@credit.register("optimizer", "signs")
class Signs(torch.optim.Optimizer):
    def __init__(self, params, lr=0.001, *, shrink: float = 0.0):
        super().__init__(params, {"lr": lr, "shrink": shrink})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["shrink"]).add_(p.grad.sign(), alpha=-group["lr"])
""",
    "schedule/line.py": """
def line(base, step, total, steps_per_epoch, *, end: float = 0.5):
    return base * (1 + (end - 1) * step / total)
""",
    "diagnostic/norms.py": """
from credit.diagnostics import Diagnostic

class Norms(Diagnostic):
    def after(self, x, y, outcome):
        return {"head": float(self.run.model.head.weight.detach().norm())}
""",
}
WORDS = [
    "rule=bp", "arch=mynet", "data=blobs", "noise=shifted", "noise.rate=0.2", "optimizer=signs", "schedule=line",
    "optimizer.lr=0.02", "trainer.epochs=2", "trainer.measure=[norms]", "trainer.progress=false", "trainer.device=cpu",
    "data.batch_size=30",
]  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path):
    """A folder with one file of each kind, in use."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with registry.temporary():
        use_folders([tmp_path])
        yield tmp_path
        use_folders([])


def test_a_run_of_ones_own_kinds_without_a_line_of_yaml(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "runs"))
    cfg = compose(
        [*WORDS, "arch.width=9", "data.spread=0.5", "noise.by=2", "optimizer.shrink=0.1", "schedule.end=0.25"]
    )
    result = train(cfg, console=False)
    assert result["status"] == "complete" and result["last"]["test_top1"] > 0.9
    rows = read_metrics(run_folder(cfg))
    assert [row["norms"]["head"] > 0 for row in rows] == [True, True]
    assert rows[-1]["lr"] == pytest.approx(0.02 * (1 - 0.75 * 17 / 18))
    code = json.loads((run_folder(cfg) / "made_from.json").read_text())["code"]
    assert set(code) == set(FILES)
    again = compose(
        [*WORDS, "arch.width=9", "data.spread=0.5", "noise.by=2", "optimizer.shrink=0.1", "schedule.end=0.5"]
    )
    assert run_folder(again) != run_folder(cfg)


def test_a_network_with_computed_weights_is_trained_and_loaded(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "runs"))
    code = FILES["arch/mynet.py"].replace(
        "    def forward", "        nn.utils.parametrizations.weight_norm(self.fc)\n\n    def forward"
    )
    (mine / "arch" / "mynet.py").write_text(code)
    cfg = compose(WORDS)
    first = train(cfg, console=False)
    net = credit.load(run_folder(cfg)).predictor
    g, v = (net.get_parameter(f"fc.parametrizations.weight.original{at}") for at in range(2))
    torch.testing.assert_close(net.get_submodule("fc").weight, g * v / v.norm(dim=1, keepdim=True))
    assert first["status"] == "complete" and first["last"]["test_top1"] > 0.6


def test_a_yaml_beside_gives_other_defaults(mine):
    (mine / "arch" / "mynet.yaml").write_text("# A small net.\nkind: mynet\nwidth: 7\n")
    assert compose(WORDS).arch == {"kind": "mynet", "width": 7}
    assert "a whole number  7" in option_table("arch", "mynet", 100)


def test_what_ones_own_kinds_do_not_take_is_refused(mine):
    for words, said in {
        "arch.widht=3": "did you mean 'width'",
        "data.spread=wide": "data.spread=wide of data=blobs is a word: must be a number",
        "data.path=x": "data.path=x would change nothing",
        "noise.rate=2": "outside [0, 1)",
    }.items():
        with pytest.raises(UserError) as refusal:
            compose([*(word for word in WORDS if not word.startswith(words.partition("=")[0] + "=")), words])
        assert said in str(refusal.value)
    with pytest.raises(UserError, match=r"unknown arch 'mynett': did you mean 'mynet'\?"):
        compose([*(word for word in WORDS if word != "arch=mynet"), "arch=mynett"])


def test_noise_of_ones_own_is_drawn_from_the_runs_seed(mine):
    cfg = compose(WORDS)
    made = [load(cfg.data, cfg.noise, seed=seed, device="cpu") for seed in (0, 0, 1)]
    assert torch.equal(made[0].train.y, made[1].train.y) and not torch.equal(made[0].train.y, made[2].train.y)
    assert 0.1 < made[0].corrupted.float().mean() < 0.3


X, Y = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])
PIXELS = torch.zeros(4, 1, 5, 5, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ((X, Y, X), "returned 3 values; it must return four arrays"),
        ((X, Y.float(), X, Y), "y_train is torch.float32 (4, 1), y_test torch.int64 (4,): both are labels"),
        ((X, Y - 1, X, Y), "counted from 0"),
        ((X, Y[:3], X, Y), "x_train has 4 examples, y_train 3 labels"),
        ((X, Y, X[:0], Y[:0]), "both parts have examples"),
        ((X, Y, X[:, :2], Y), "all have one type and shape"),
        ((X / 0, Y, X, Y), "x_train has a value that is not finite"),
        ((PIXELS.float(), Y, PIXELS, Y), "images, uint8 (N, C, H, W) of 0..255"),
        ((torch.zeros(4, 5, 5, 3, dtype=torch.uint8), Y, PIXELS, Y), "channels first"),
        ((X, 2 * Y, X, 2 * Y), "label 1 has no example"),
        ((X, "labels", X, Y), "y_train is a str, which is no array of numbers"),
    ],
)
def test_arrays_that_make_no_set_are_refused(returned, said):
    with pytest.raises(UserError) as refusal:
        arrays("data=mine", returned)
    assert said in str(refusal.value) and str(refusal.value).startswith("data=mine")
    assert arrays("data=mine", (PIXELS[:, 0].numpy(), Y.numpy(), PIXELS, Y)).x_train.shape == (4, 1, 5, 5)
