"""Help, --cfg and list: what they print, and that they take well under a second for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from credit.cli.main import main as credit
from credit.cli.train import main as train

REPO = Path(__file__).resolve().parents[2]
SECOND = 1.0


def answered(*words: str) -> float:
    """Return the processor's seconds of a Python process of its own: on a busy machine a clock shows others' work."""
    start = processor_seconds()
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return processor_seconds() - start


def quick(module: str, line: str) -> bool:
    """Return whether a module answers in a second; on a machine of other speed in 3.5 times what importing Hydra takes there."""
    took = answered("-m", module, *line.split(" "))
    return took < SECOND or took < 3.5 * answered("-c", "import hydra.main")


def processor_seconds():
    """Return the seconds that processes started here, and done, have computed."""
    spent = os.times()
    return spent.children_user + spent.children_system


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("credit.cli.train", "--help"),
        ("credit.cli.train", "--cfg job rule=lisp_margin data=cifar10 noise=0.4"),
        ("credit.cli.main", "--help"),
        ("credit.cli.main", "list"),
        ("credit.cli.main", "doctor --help"),
        ("credit.cli.main", "check --help"),
        ("credit.cli.main", "bench --help"),
        ("credit.cli.main", "table --help"),
        ("credit.cli.main", "table"),
        ("credit.cli.main", "report --help"),
    ],
)
def test_answers_in_a_second(tmp_path, monkeypatch, module, line):
    monkeypatch.chdir(tmp_path)
    assert any(quick(module, line) for _ in range(3))
    assert list(tmp_path.iterdir()) == []


def test_nothing_heavy_is_imported_for_an_answer():
    code = (
        "import sys; from credit.cli.train import main; main(['--cfg', 'job']); "
        "print([m for m in ('torch', 'numpy', 'timm', 'wandb', 'sklearn', 'torchvision', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_shows_groups_choices_and_examples(capsys):
    assert train(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("lisp_margin", "plain_conv_bn", "cifar10", "credit-train -m", "--config-dir", "CREDIT_DATA", "0.4"):
        assert word in shown
    assert len(shown.splitlines()) < 70


def test_help_shows_the_users_choices(capsys, tmp_path):
    (tmp_path / "rule").mkdir()
    (tmp_path / "rule" / "mine.yaml").write_text("# My idea.\nkind: mine\n")
    assert train(["--config-dir", str(tmp_path), "--help"]) == 0
    assert " mine" in capsys.readouterr().out
    assert credit(["list", "rules", "--config-dir", str(tmp_path)]) == 0
    assert "My idea." in capsys.readouterr().out
    assert credit(["list", "rules"]) == 0
    assert "My idea." not in capsys.readouterr().out


def test_the_shown_configuration_is_complete(capsys):
    assert train(["--cfg", "job", "noise=0.4", "seed=3"]) == 0
    shown = capsys.readouterr().out
    assert "rate: 0.4" in shown and "seed: 3" in shown and "kind: mlp" in shown and "hydra" not in shown


def test_list_describes_every_choice(capsys):
    assert credit(["list", "archs", "optimizers"]) == 0
    shown = capsys.readouterr().out
    assert "plain_conv_bn" in shown and "adamw" in shown and "cifar10" not in shown


def test_doctor_says_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CREDIT_DATA", str(tmp_path / "no data here"))
    assert credit(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warn", "fail") for line in lines)
    states = {line.split()[1]: line.split()[0] for line in lines}
    assert states["python"] == "ok" and states["torch"] == "ok" and states["digits"] == "ok"
    assert states["cifar10"] == "warn" and states["data"] == "warn"
    assert states["imagenet32"] == "ok"  # which few have
    folder = tmp_path / "no data here" / "imagenet32"
    folder.mkdir(parents=True)
    (folder / "val_data").write_bytes(b"")
    assert credit(["doctor"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "imagenet32")
    assert line.startswith("warn") and "missing: train_data_batch_1, " in line
