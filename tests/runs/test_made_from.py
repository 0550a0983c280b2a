"""What a run was made from: edited code and changed data refuse its reuse and its resumption, naming the file."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from credit.cli.train import main as train
from credit.core.config.data_files import data_files
from credit.core.config.schema import DataConfig
from credit.core.config.validate import check
from credit.data.sources.catalog import KNOWN
from credit.data.sources.tables.tabular import TABLES
from credit.runs import made_from, user_code

SMALL = ["rule=bp", "arch.widths=[8]", "data.limit_train=200", "data.limit_test=50", "data.batch_size=20"]
SMALL += ["trainer.steps=4", "trainer.progress=false"]

GATE = """
import credit
{imports}

@credit.rules.gate("{name}")
def {name}(pre, post):
    {body}
    return (pre > 0).to(pre.dtype)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch, registry_as_it_was):
    """A user's folder; what its files register is forgotten afterwards."""
    modules = set(sys.modules)
    monkeypatch.setattr(user_code, "_FIRST", {})
    folder = tmp_path / "mine"
    (folder / "rule").mkdir(parents=True)
    yield folder
    for name in set(sys.modules) - modules:
        if name.startswith(("credit_user", "helper_of")):
            del sys.modules[name]


def write_gate(folder: Path, name: str, imports: str = "", body: str = "pass") -> None:
    (folder / "rule" / f"{name}.py").write_text(GATE.format(name=name, imports=imports, body=body))


def run(folder: Path | None, *words: str) -> int:
    """Run the command as a process of its own would, which imports the user's files anew."""
    user_code._FIRST.clear()
    return train([*(["--config-dir", str(folder)] if folder else []), *words])


def test_a_finished_run_of_an_edited_gate_is_refused_and_run_anew(mine, tmp_path, capsys):
    write_gate(mine, "soft_a")
    line = [*SMALL, "rule.gate=soft_a"]
    assert run(mine, *line) == 0
    assert run(mine, *line) == 0 and "already complete" in capsys.readouterr().out
    write_gate(mine, "soft_a", body="pre = 2 * pre")
    assert run(mine, *line) == 2
    told = capsys.readouterr().err
    assert "complete, but not of what is there now: rule/soft_a.py was edited" in told and "rerun=true" in told
    assert run(mine, *line, "rerun=true") == 0
    assert "starting anew; the files of before are in" in capsys.readouterr().out
    [folder] = [one for one in (tmp_path / "runs").iterdir() if one.name != "earlier"]
    [before] = (tmp_path / "runs" / "earlier").iterdir()
    assert before.name == f"{folder.name}.1" and (before / "result.json").is_file()
    assert json.loads((folder / "config.json").read_text())["reruns"] == 1  # W&B shows it as another run
    assert run(mine, *line) == 0 and "already complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("imports", "file", "content"),
    [
        ("import helper_of_b", "helper_of_b.py", "x = 1"),
        ("from helper_of_c import x", "helper_of_c/__init__.py", "from helper_of_c.inner import x"),
        ("import importlib; importlib.import_module('helper_of_d')", "helper_of_d.py", "x = 1"),
        ("def later():\n    from helper_of_e.inner import x", "helper_of_e/inner.py", "x = 1"),
        ("def later():\n    import importlib; importlib.import_module('helper_of_f')", "rule/helper_of_f.py", "x = 1"),
        ("TABLE = 'rule/../table.txt'; from pathlib import Path", "rule/table.txt", "1"),
    ],
    ids=["module", "package", "by name", "not yet, of a namespace package", "not yet, by name", "file"],
)
def test_what_the_users_file_brings_with_it_counts(mine, monkeypatch, capsys, imports, file, content):
    """Modules of the folder, whichever way they are imported and from whatever depth, and files that the text names."""
    monkeypatch.syspath_prepend(str(mine))
    path = mine / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    changed = path
    if path.name == "__init__.py":  # two imports away
        changed = path.with_name("inner.py")
        changed.write_text("x = 1")
    name = f"gate_{path.parent.name}_{path.stem}".replace("__init__", "p")
    body = "import helper_of_b" if file == "helper_of_b.py" else "name = 'table.txt'"
    write_gate(mine, name, "" if file == "helper_of_b.py" else imports, body)
    line = [*SMALL, f"rule.gate={name}"]
    assert run(mine, *line) == 0
    changed.write_text(changed.read_text() + "\n# edited")
    assert run(mine, *line) == 2
    assert f"{changed.relative_to(mine).as_posix()} was edited" in capsys.readouterr().err


def test_code_that_another_run_uses_does_not_count(mine, capsys):
    write_gate(mine, "used")
    write_gate(mine, "unused")
    assert run(mine, *SMALL, "rule.gate=used") == 0 and run(mine, *SMALL, "rule.gate=unused") == 0
    write_gate(mine, "unused", body="pre = 3 * pre")
    capsys.readouterr()
    assert run(mine, *SMALL, "rule.gate=used") == 0 and "already complete" in capsys.readouterr().out
    assert run(mine, *SMALL, "rule.gate=unused") == 2


def test_code_edited_after_its_import_is_refused(mine, capsys):
    write_gate(mine, "late")
    assert run(mine, *SMALL, "rule.gate=late") == 0
    write_gate(mine, "late", body="pre = 2 * pre")
    assert train(["--config-dir", str(mine), *SMALL, "rule.gate=late", "seed=1"]) == 2
    assert "was edited after this Python process had imported it" in capsys.readouterr().err


def test_an_unfinished_run_is_not_gone_on_with(mine, tmp_path, capsys):
    write_gate(mine, "slow")
    line = [*SMALL, "rule.gate=slow"]
    assert run(mine, *line) == 0
    [folder] = (tmp_path / "runs").iterdir()
    (folder / "result.json").unlink()
    (folder / "checkpoints" / "step-000000004.ckpt").rename(folder / "checkpoints" / "step-000000004.ckpt")
    write_gate(mine, "slow", body="pre = 2 * pre")
    assert run(mine, *line) == 2
    told = capsys.readouterr().err
    assert "was begun with something else" in told and "rule/slow.py was edited" in told and "resume=anyway" in told
    assert run(mine, *line, "resume=anyway") == 0
    assert "warning: going on at step 4 with differences: rule/slow.py was edited" in capsys.readouterr().err
    result = json.loads((folder / "result.json").read_text())
    assert result["resumed"] == [{"step": 4, "differences": ["rule/slow.py was edited"]}]


def test_a_sweep_refuses_and_runs_again_what_changed(mine, tmp_path, capsys):
    write_gate(mine, "swept")
    line = ["-m", "--config-dir", str(mine), *SMALL, "rule.gate=swept,derivative", "seed=0"]
    assert train(line) == 0
    write_gate(mine, "swept", body="pre = 2 * pre")
    user_code._FIRST.clear()
    capsys.readouterr()
    assert train(line) == 2
    assert "job 1 of 2 (rule.gate=swept) cannot run, so none was started" in capsys.readouterr().err
    assert train([*line, "rerun=changed"]) == 0
    shown = capsys.readouterr().out
    assert "1 job to run, 1 already complete" in shown
    assert [one.name.rpartition(".")[2] for one in (tmp_path / "runs" / "earlier").iterdir()] == ["1"]
    assert train([*line, "rerun=true"]) == 0 and "2 jobs to run" in capsys.readouterr().out
    assert train(line) == 0 and "2 already complete" in capsys.readouterr().out


def write_npz(path: Path, shift: int) -> None:
    x = np.random.default_rng(shift).integers(0, 255, (60, 6, 6), dtype=np.uint8)
    y = np.arange(60) % 4
    np.savez(path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])


NPZ = ["rule=bp", "arch.widths=[8]", "data=npz", "data.batch_size=20", "trainer.steps=3", "trainer.progress=false"]


def test_data_that_was_replaced_is_refused(tmp_path, capsys):
    path = tmp_path / "s.npz"
    write_npz(path, 0)
    line = [*NPZ, f"data.path={path}"]
    assert run(None, *line) == 0
    os.utime(path)  # a new time, the same content
    assert run(None, *line) == 0 and "already complete" in capsys.readouterr().out
    write_npz(path, 1)
    assert run(None, *line) == 2
    told = capsys.readouterr().err
    assert "data s.npz changed (1 file of" in told and "with other contents" in told
    assert run(None, *line, "rerun=changed") == 0 and run(None, *line) == 0
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    write_npz(path, 2)
    os.utime(path, ns=times)  # as archives and copies do
    capsys.readouterr()
    assert run(None, *line) == 2 and "data s.npz changed (1 file of" in capsys.readouterr().err
    path.unlink()  # nothing there speaks against the number
    assert run(None, *line) == 0


def write_images(folder: Path, count: int) -> None:
    for part in ("train", "val"):
        for label in ("a", "b"):
            (folder / part / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                shade = 40 * number + (100 if label == "b" else 0)
                Image.new("RGB", (8, 8), (shade, shade, shade)).save(folder / part / label / f"{number}.png")


@pytest.mark.parametrize("hold", ["decoded", "files"])
def test_an_image_added_or_replaced_is_refused(tmp_path, capsys, hold):
    folder = tmp_path / "images"
    write_images(folder, 3)
    line = [
        "rule=bp",
        "arch.widths=[4]",
        "data=image_folder",
        f"data.path={folder}",
        f"data.hold={hold}",
        "data.batch_size=4",
    ]
    line += ["data.val_fraction=0", "trainer.steps=2", "trainer.progress=false"]
    assert run(None, *line) == 0
    replaced = folder / "train" / "a" / "1.png"
    before = replaced.read_bytes()
    replaced.write_bytes(before[:-20] + bytes(8) + before[-12:])  # as large as before
    assert run(None, *line) == 2
    assert "data train/a/1.png changed (1 file of" in capsys.readouterr().err
    replaced.write_bytes(before)
    assert run(None, *line) == 0
    (folder / "notes.txt").write_text("no image")
    assert run(None, *line) == 0
    Image.new("RGB", (8, 8)).save(folder / "train" / "b" / "new.png")
    capsys.readouterr()
    assert run(None, *line) == 2
    assert "data train/b/new.png is new" in capsys.readouterr().err


def test_many_files_are_named_by_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("credit.core.config.data_files.FEW", 5)
    write_images(tmp_path, 2)
    cfg = DataConfig(kind="image_folder", path=str(tmp_path))
    assert sorted(data_files(cfg)) == ["train/a", "train/b", "val/a", "val/b"]
    assert sorted(data_files(DataConfig(kind="image_folder", path=str(tmp_path), classes=["b"]))) == [
        f"{part}/b/{number}.png" for part in ("train", "val") for number in (0, 1)
    ]


def test_every_set_from_disk_is_watched(tmp_path):
    """Known sets, tables: exactly the files that reading them opens."""
    for kind, known in KNOWN.items():
        for name in known.files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        assert sorted(data_files(DataConfig(kind=kind, root=str(tmp_path)))) == sorted(known.files)
    (tmp_path / "tabular").mkdir()
    for name, table in TABLES.items():
        for file in table.file[:1] if table.file else ():
            (tmp_path / "tabular" / file).write_text("x")
            assert list(data_files(DataConfig(kind="tabular", name=name, root=str(tmp_path)))) == [f"tabular/{file}"]
    (tmp_path / "imagenet32" / "inner").mkdir(parents=True)
    for name in ("train_data_batch_1", "inner/val_data.npz"):
        (tmp_path / "imagenet32" / name).write_text("x")
    assert len(data_files(DataConfig(kind="imagenet32", root=str(tmp_path)))) == 2


def test_a_change_of_the_package_warns_and_stops_a_resumption(tmp_path, monkeypatch, capsys):
    assert run(None, *SMALL) == 0
    [folder] = (tmp_path / "runs").iterdir()
    now = dict(user_code.package_code())
    assert "core/config/schema.py" in now  # a default is no part of a run's name
    monkeypatch.setattr(made_from, "package_code", lambda: {**now, "rules/base.py": "another"})
    capsys.readouterr()
    assert run(None, *SMALL) == 0
    told = capsys.readouterr()
    assert "already complete" in told.out
    assert "warning: made with another version of credit's code (credit/rules/base.py was edited)" in told.err
    (folder / "result.json").unlink()
    assert run(None, *SMALL) == 2
    assert "credit/rules/base.py was edited. Going on would mix the two" in capsys.readouterr().err
    assert run(None, *SMALL, "resume=anyway") == 0
    assert (
        "credit/rules/base.py was edited"
        in json.loads((folder / "result.json").read_text())["resumed"][0]["differences"]
    )


def test_a_run_older_than_records_is_reused_with_a_note(tmp_path, capsys):
    assert run(None, *SMALL) == 0
    [folder] = (tmp_path / "runs").iterdir()
    (folder / "made_from.json").unlink()
    capsys.readouterr()
    assert run(None, *SMALL) == 0
    assert "made before runs recorded their code and data" in capsys.readouterr().err
    (folder / "made_from.json").write_text('{"code": {}}')
    assert run(None, *SMALL) == 2
    assert "made_from.json is damaged (it has no package, data); delete" in capsys.readouterr().err


def test_the_record_is_read_without_torch():
    import subprocess

    code = "import sys, credit.runs.outcome; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("word", "told"), [("rerun=yes", "must be true or false or changed"), ("resume=always", "resume=always")]
)
def test_refused_words(capsys, word, told):
    assert train([*SMALL, word]) == 2 and told in capsys.readouterr().err


def test_neither_option_decides_the_result():
    base = {"rule": {"kind": "sweep"}, "arch": {"kind": "mlp"}, "trainer": {"epochs": 1}}
    from credit.runs import run_name

    assert run_name(check({**base, "rerun": True, "resume": "anyway"})) == run_name(check(base))
