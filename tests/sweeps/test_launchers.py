"""Sweeps and tables on Hydra's other launchers: in this process, and by submitit in processes like a cluster's."""

import importlib.util
import json
import os

import pytest

from credit.cli.main import main as credit
from credit.cli.train import main as train
from credit.core import registry
from tests.support.tables import write_table

TINY = ["arch.widths=[8]", "data.limit_train=200", "data.limit_test=50", "data.batch_size=20", "trainer.steps=4"]
submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="hydra-submitit-launcher is not installed: credit[slurm]"
)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder that runs go to, while the working directory is another, empty one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    # A rule of a test's own stays its own.
    with registry.temporary():
        yield tmp_path / "runs"
    assert list((tmp_path / "here").iterdir()) == []


def write_rule(tmp_path, body):
    folder = tmp_path / "my_conf"
    (folder / "rule").mkdir(parents=True, exist_ok=True)
    (folder / "rule" / "fragile.yaml").write_text("kind: fragile\nname: fragile\nloss: ce\n")
    (folder / "rule" / "fragile.py").write_text(
        "import credit\n\n\n@credit.register_rule('fragile')\nclass Fragile(credit.BackwardRule):\n"
        f"    def compute(self, params, buffers, x, y, draws):\n        {body}\n"
    )
    return str(folder)


def _text(file):
    return file.read_text()


def sweep_that_half_fails(runs, capsys, tmp_path, launcher):
    """A sweep of which one job raises: exit code 1, the other done; mended, only that one is run."""
    mended = tmp_path / "mended"
    folder = write_rule(
        tmp_path,
        f"import os\n        if not os.path.exists('{mended}'):\n            raise ZeroDivisionError('in my rule')\n"
        "        return super().compute(params, buffers, x, y, draws)",
    )
    line = ["-m", *TINY, "--config-dir", folder, "rule=bp,fragile", f"hydra/launcher={launcher}"]
    assert train(line) == 1
    shown = capsys.readouterr().out
    assert "rule=fragile: ZeroDivisionError: in my rule" in shown and "tries the rest again" in shown
    assert sorted(json.loads(_text(file))["status"] for file in runs.glob("*/result.json")) == ["complete", "failed"]
    mended.touch()
    assert train(line) == 0
    assert {json.loads(_text(file))["status"] for file in runs.glob("*/result.json")} == {"complete"}
    assert train(line) == 0
    assert "nothing to run, 2 already complete" in capsys.readouterr().out


def test_a_sweep_in_this_process(runs, capsys, tmp_path):
    sweep_that_half_fails(runs, capsys, tmp_path, "basic")


def test_a_job_that_cannot_run_is_refused_on_every_launcher(runs, capsys):
    assert train(["-m", *TINY, "rule=bp,lisp_margin", "rule.margn=1", "hydra/launcher=basic"]) == 2
    assert "job 1 of 2 (rule=bp) cannot run, so none was started" in capsys.readouterr().err
    assert not runs.exists()


def test_a_table_in_this_process(runs, capsys, tmp_path):
    folder = write_table(tmp_path / "conf")
    line = ["table", "lab/digits", "budget=smoke", "hydra/launcher=basic", "--config-dir", folder]
    assert credit(line) == 0
    shown = capsys.readouterr().out
    assert "4 jobs (4 cells, 1 seed), 0 already complete" in shown and "given to basic" in shown and "fa wins" in shown
    results = [json.loads(_text(file)) for file in runs.glob("*/result.json")]
    assert len(results) == 4 and all(one["status"] == "complete" for one in results)
    assert all(one["provenance"]["command"].startswith("credit table lab/digits budget=smoke") for one in results)


@submitit
@pytest.mark.slow
def test_a_sweep_by_submitit(runs, capsys, tmp_path):
    sweep_that_half_fails(runs, capsys, tmp_path, "submitit_local")
    assert (runs / "launcher" / ".submitit").is_dir()


@submitit
@pytest.mark.slow
def test_seeds_together_are_one_job_of_submitits(runs, capsys):
    line = [*TINY, "rule=bp", "seed=3", "replicas=3", "trainer.replicate=map", "hydra/launcher=submitit_local"]
    assert train(line) == 0
    assert "3 seeds trained together" in capsys.readouterr().out
    results = [json.loads(_text(file)) for file in runs.glob("*/result.json")]
    assert sorted(one["config"]["seed"] for one in results) == [3, 4, 5]
    assert len(list((runs / "launcher" / ".submitit").glob("[0-9]*"))) == 1, "more than one job was sent"
    assert train(line) == 0
    assert "nothing to run, 3 already complete" in capsys.readouterr().out


@submitit
@pytest.mark.slow
def test_a_table_by_submitit(runs, capsys, tmp_path):
    folder = write_table(tmp_path / "conf")
    line = ["table", "lab/digits", "budget=smoke", "hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"]
    assert credit([*line, "--config-dir", folder]) == 0
    shown = capsys.readouterr().out
    assert "given to submitit_local" in shown and "fa wins" in shown
    assert len(list(runs.glob("*/result.json"))) == 4
    table = runs / "tables" / "lab-digits-smoke"
    assert (table / "report.md").is_file() and (table / "launcher" / ".submitit").is_dir()
    assert credit([*line, "--config-dir", folder]) == 0
    assert "4 already complete" in capsys.readouterr().out


@submitit
@pytest.mark.slow
def test_a_job_killed_on_the_cluster_costs_no_other(runs, capsys, tmp_path):
    """As by the kernel for want of memory: the launcher gives up, the finished runs stay, the command says so."""
    folder = write_rule(tmp_path, "import os\n        os.kill(os.getpid(), 9)")
    line = ["-m", *TINY, "--config-dir", folder, "rule=bp,fragile", "hydra/launcher=submitit_local"]
    assert train(line) == 1
    shown = capsys.readouterr().out
    assert "rule=fragile: the launcher gave up" in shown and "│ bp" in shown


@submitit
@pytest.mark.skipif(os.path.exists("/usr/bin/srun"), reason="there is a SLURM here")
def test_slurm_that_is_not_there(runs, capsys, tmp_path):
    folder = write_table(tmp_path / "conf")
    assert credit(["table", "lab/digits", "hydra/launcher=submitit_slurm", "--config-dir", folder]) == 2
    assert "no SLURM on this machine" in capsys.readouterr().err
    assert not runs.exists()
