"""One run over two processes: its weights are those of one process, and a kill of any of them loses nothing."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.runs.folder import read_result, run_folder
from credit.training import train
from credit.training.state import checkpoint

pytestmark = pytest.mark.slow

SHORT = [
    "data.limit_train=51",
    "data.limit_test=30",
    "data.batch_size=16",
    "trainer.precision=float64",
    "trainer.progress=false",
]
MLP = [
    "data=digits",
    "data.drop_last=false",
    "arch.widths=[12,10]",
    "trainer.epochs=2",
    *SHORT,
]  # batches of 16 and, at an epoch's end, of another size
NORM = [
    *(word for word in MLP if "batch_size" not in word),
    "data.batch_size=13",
    "arch.norm=batch",
    "optimizer.lr=0.02",
]
"""Batches of 13, and of 7 at an epoch's end: shares are unequal."""
CONVOLUTIONS = [
    "arch=plain_conv_bn",
    "arch.widths=[4,4,4,4,4,4]",
    "arch.hidden=8",
    "trainer.steps=2",
    "trainer.epochs=null",
    *SHORT,
]
FLOAT32 = "trainer.precision=float32"
WORDS: dict[str, list[str]] = {
    "bp": ["rule=bp", *MLP],
    "limits": ["rule=lisp_margin", "rule.clip_norm=0.05", *MLP],
    "max_abs": ["rule=lisp_raw", "rule.normalizer=max_abs", *MLP],
    "lfp": ["rule=lfp_epsilon", "rule.normalizer=max_abs", *MLP],
    "dp": ["rule=dp", *MLP],
    "damped": ["rule=dp_damped", *MLP],
    "eqprop": ["rule=eqprop", *MLP],
    "rec_lra": ["rule=rec_lra", *MLP],
    "dtp": ["rule=dtp", *MLP],
    "dfa": ["rule=dfa", *MLP],
    "fresh signs": ["rule=brsf", *MLP],
    "noise": ["rule=jam_full", "arch.dropout=0.3", "rule.signal_dropout=0.2", *MLP],
    "attack": ["rule=bp", "trainer.adversarial_epsilon=0.05", "trainer.adversarial_share=0.5", *MLP],
    "warm": ["rule=fa", "trainer.warm_rule=bp", "trainer.warm_steps=2", "optimizer=adam", *MLP],
    "diagnostics": ["rule=fa", "trainer.measure=[alignment]", *MLP],
    "images": ["rule=lisp_ce", "arch=lenet5", "data.augment=[crop,flip]", "trainer.steps=3", "trainer.epochs=null", *SHORT],
    "images, lfp": ["rule=lfp_epsilon", "arch=lenet5", "trainer.steps=3", "trainer.epochs=null", *SHORT],
    "images, rec_lra": ["rule=rec_lra", "arch=lenet5", "trainer.steps=3", "trainer.epochs=null", *SHORT],
    "cutmix": ["rule=bp", "data.mixup=0.4", "data.cutmix=1.0", *MLP],
    "spiking": ["rule=lfp_epsilon", "data=digits", "arch=spiking_mlp", "arch.widths=[12]", "arch.steps=3", *SHORT],
    "norm": ["rule=bp", *NORM],
    "norm, float32": ["rule=bp", *NORM, FLOAT32],
    "norm, lisp": ["rule=lisp_margin", *NORM, FLOAT32],
    "norm, lfp": ["rule=lfp_epsilon", "rule.batchnorm=epsilon", *NORM, FLOAT32],
    "norm, folded": ["rule=lfp_zpm", "rule.batchnorm=folded", *NORM],
    "norm, dfa": ["rule=dfa", *NORM, FLOAT32],
    "norm, rec_lra": ["rule=rec_lra", *NORM],
    "norm, dtp": ["rule=dtp", *NORM],
    "norm, noise": ["rule=jam_full", "arch.dropout=0.3", "trainer.bn_batches=2", *NORM],
    "norm, attack": ["rule=bp", "trainer.adversarial_epsilon=0.05", *NORM],
    "images, norm": ["rule=bp", *CONVOLUTIONS, FLOAT32],
    "images, norm, lisp": ["rule=lisp_margin", *CONVOLUTIONS, FLOAT32],
    "images, norm, lfp": ["rule=lfp_epsilon", "rule.batchnorm=folded", *CONVOLUTIONS],
    "images, norm, dfa": ["rule=dfa", *CONVOLUTIONS, FLOAT32],
}  # fmt: skip


def settings(name: str, folder: Path) -> list[str]:
    images = ["data=npz", f"data.path={folder}/images.npz"] if name.startswith("images") else []
    return [*images, *{word.partition("=")[0]: word for word in WORDS[name]}.values(), "schedule=constant"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def join(rank: int, port: int, runs: str) -> None:
    """Make this process one of two, as torchrun does, for several runs one after the other."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "CREDIT_RUNS": runs}
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)


def one_rank(rank: int, port: int, folder: str) -> None:
    join(rank, port, f"{folder}/two")
    for name in WORDS:
        train(compose(settings(name, Path(folder))), console=False)


def weights(folder: Path) -> dict[str, Any]:
    state = checkpoint.latest(folder, print)
    assert state is not None
    found: dict[str, Any] = state["model"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which two processes have trained all runs of ``WORDS``."""
    made = tmp_path_factory.mktemp("ranks")
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (90, 28, 28), dtype=np.uint8), np.arange(90) % 10
    np.savez(made / "images.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    torch.multiprocessing.spawn(one_rank, args=(free_port(), str(made)), nprocs=2)
    return made


@pytest.mark.parametrize("name", WORDS)
def test_two_processes_train_the_weights_of_one(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = compose(settings(name, folder))
    monkeypatch.setenv("CREDIT_RUNS", str(folder / "one"))
    train(cfg, console=False)
    alone, one = weights(run_folder(cfg)), read_result(run_folder(cfg))
    monkeypatch.setenv("CREDIT_RUNS", str(folder / "two"))
    shared, two = weights(run_folder(cfg)), read_result(run_folder(cfg))
    exact = cfg.trainer.precision == "float64"
    torch.testing.assert_close(shared, alone, rtol=1e-7 if exact else 1e-6, atol=1e-9 if exact else 1e-6)
    assert one is not None and two is not None and two["world_size"] == 2 and "world_size" not in one
    for key, value in one["last"].items():
        assert key == "seconds" or two["last"][key] == pytest.approx(value, rel=1e-6 if exact else 1e-5), key


def command(port: int, *words: str) -> list[str]:
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={port}",
        "-m",
        "credit.cli.train",
    ]
    return [*start, *words]


def newest(runs: Path) -> str:
    """Return the name of the newest checkpoint of the run in a folder; empty before the first."""
    return max((path.name for path in runs.glob("*/checkpoints/*.ckpt")), default="")


def test_a_rank_killed_at_random_ten_times_loses_nothing(tmp_path: Path) -> None:
    words = [
        "rule=jam_full",
        "data=digits",
        "arch.widths=[32]",
        "arch.dropout=0.2",
        "trainer.epochs=60",
        "trainer.progress=false",
    ]
    found, source = [], random.Random(0)
    for kills in (0, 10):
        surroundings = os.environ | {"CREDIT_RUNS": str(tmp_path / f"kills{kills}"), "OMP_NUM_THREADS": "1"}
        for _ in range(kills):
            null, before = subprocess.DEVNULL, newest(tmp_path / f"kills{kills}")
            with subprocess.Popen(command(free_port(), *words), env=surroundings, stdout=null, stderr=null) as run:
                while newest(tmp_path / f"kills{kills}") == before and run.poll() is None:
                    time.sleep(0.1)
                time.sleep(source.random())
                ranks = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
                if ranks:
                    os.kill(int(source.choice(ranks)), signal.SIGKILL)
        assert subprocess.run(command(free_port(), *words), env=surroundings, capture_output=True).returncode == 0
        [result] = tmp_path.glob(f"kills{kills}/*/result.json")
        content = read_result(result.parent)
        assert content is not None and content["status"] == "complete"
        found.append(content["weights_sha256"])
    assert found[0] == found[1]


FAILING = """
import os

import numpy as np


def failing(*, where: str = "nowhere"):
    if os.environ["RANK"] == "1" and where == "data":
        raise FileNotFoundError("no folder")
    x = np.random.default_rng(0).normal(size=(200, 4))
    return x[:150], np.arange(150) % 3, x[150:], np.arange(50) % 3
"""
FAILING_RULE = """
import os
import time

import credit
from credit.core.errors import UserError
from credit.rules.backward.rule import BackwardRule


@credit.register("rule", "failing")
class Failing(BackwardRule):
    traits = credit.Traits(shares=True)

    def compute(self, params, buffers, x, y, draws):
        if os.environ["RANK"] == "1" and self.position == 4:
            raise UserError("no fifth step")
        if os.environ["RANK"] == "0" and self.position == 4 and "WAIT" in os.environ:
            time.sleep(100)
        return super().compute(params, buffers, x, y, draws)
"""
FAILURES: dict[str, tuple[list[str], str, int]] = {
    "a wrong option": (["optimizer.lr=-1"], "credit-train: optimizer.lr=-1 is outside", 2),
    "settings that differ": (["rule=bp", "seed=${oc.env:RANK}"], "credit-train: the processes of one run must be", 2),
    "data": (["data.where=data"], "FileNotFoundError: no folder", 1),
    "a step": (["rule=failing"], "credit-train: no fifth step", 2),
    "a step, the other process waiting": (["rule=failing"], "credit-train: no fifth step", 2),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_of_one_process_ends_all_and_is_printed_once(name: str, tmp_path: Path) -> None:
    for part, source in (("data", FAILING), ("rule", FAILING_RULE)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "failing.py").write_text(source)
        (tmp_path / part / "failing.yaml").write_text("# Fails\nkind: failing\n" + "name: failing\n" * (part == "rule"))
    words, told, code = FAILURES[name]
    call = command(
        free_port(), "--config-dir", str(tmp_path), "data=failing", "data.batch_size=16", "arch.widths=[4]", *words
    )
    surroundings = os.environ | {"CREDIT_RUNS": str(tmp_path / "runs")} | ({"WAIT": "1"} if "waiting" in name else {})
    with subprocess.Popen(call, env=surroundings, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        lines, printed = [], None
        for line in run.stderr:
            lines.append(line)
            printed = time.monotonic() if told in line and printed is None else printed
    text = "".join(lines)
    assert text.count(told) == 1 and text.count("Traceback") == 2 - (code == 2), text
    assert f"exitcode  : {code} " in text.partition("Root Cause")[2] and run.returncode != 0
    assert printed is not None and time.monotonic() - printed < 20


REFUSED = [
    (["-m", "seed=0,1"], "torchrun started 2 processes for one run, and -m makes several"),
    (["replicas=3"], "torchrun started 2 processes for one run, and replicas=3 are several"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_several_runs_are_refused(words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from credit.cli.train import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["data=digits", *words]) == 2
    assert told in capsys.readouterr().err


def refused_rank(rank: int, port: int, folder: str) -> None:
    join(rank, port, folder)
    cases = [
        (["rule=jam_full", "rule.match_mean=true"], "rule.gate=jam_full may need the whole batch at once"),
        (["rule=lfp_epsilon", "rule.reduction=sum"], "rule 'lfp_epsilon' may need the whole batch"),
        (["rule=bp", "data.limit_train=49"], "the smallest batch of an epoch has 1 examples"),
        (
            ["rule=bp", "trainer.sync_batchnorm=false"],
            "sync_batchnorm=false .* Sequential has no BatchNorm that uses them",
        ),
        (["rule=bp", f"seed={rank}"], "the settings of process"),
    ]
    for words, told in cases:
        with pytest.raises(UserError, match=told):
            given = [word for word in MLP if word.partition("=")[0] not in {one.partition("=")[0] for one in words}]
            train(compose([*given, "data.val_fraction=0", *words]), console=False)


def own_statistics(rank: int, port: int, folder: str) -> None:
    join(rank, port, folder)
    train(compose([*settings("norm", Path(folder)), "trainer.sync_batchnorm=false"]), console=False)


def test_statistics_of_each_process_are_noted_and_give_other_weights(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.multiprocessing.spawn(own_statistics, args=(free_port(), str(tmp_path)), nprocs=2)
    [made] = tmp_path.glob("bp-*")
    result = read_result(made)
    assert result is not None
    assert [note for note in result["notes"] if "BatchNorm" in note or "batch_norm" in note] == [
        "2 processes and trainer.sync_batchnorm=false: batch_norm 'norm1' and its like use the statistics of each process's share "
        "of a batch"
    ]
    cfg = compose(settings("norm", folder))
    monkeypatch.setenv("CREDIT_RUNS", str(folder / "two"))
    assert (
        float((weights(run_folder(cfg))["norm1.running_var"] - weights(made)["norm1.running_var"]).abs().max()) > 1e-4
    )


def test_statistics_of_each_process_are_refused_in_one_process() -> None:
    with pytest.raises(UserError, match="sync_batchnorm=false .* this is one process"):
        train(compose([*settings("norm", Path()), "trainer.sync_batchnorm=false"]), console=False)


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(refused_rank, args=(free_port(), str(tmp_path)), nprocs=2)
