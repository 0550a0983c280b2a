"""The table of bad input through the real command line: exit code 2, one screen, no traceback, nothing left behind."""

import os
import subprocess
import sys

import pytest

from credit.cli.main import main as credit
from credit.cli.train import main as train


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def refused(capsys, tmp_path, main, words):
    code = main(words)
    output = capsys.readouterr()
    assert code == 2, output.err
    assert "Traceback" not in output.err and len(output.err) < 2000 and output.err.count("\n") < 20
    assert list((tmp_path / "here").iterdir()) == [] and not (tmp_path / "runs").exists()
    return output.err


TEXT = [
    ("rule=lisp_margn", "unknown rule 'lisp_margn': did you mean 'lisp_margin'?"),
    ("+rule=lisp_margn", "unknown rule 'lisp_margn': did you mean 'lisp_margin'?"),
    ("arch=resnet18", "unknown arch 'resnet18'"),
    ("arch=resnet34", "any timm model: arch=timm arch.name=resnet18"),
    ("data=cifar", "unknown data 'cifar': did you mean 'cifar10'?"),
    ("noise=symetric", "did you mean 'symmetric'?"),
    ("optimizer=adm", "did you mean 'adam'?"),
    ("rule=", "rule= is empty"),
    ("rule=null", "unknown rule 'null'"),
    ("rule=7", "unknown rule '7'"),
    ("rule=[bp]", "To run several write -m rule=first,second"),
    ("experiment=lisp_cifar10_quik", "did you mean 'lisp_cifar10_quick'?"),
    ("optimizer.momentun=0.5", "optimizer.momentun=0.5: optimizer=sgd has no such option; did you mean 'momentum'?"),
    ("+optimizer.momentun=0.5", "optimizer.momentun=0.5: optimizer=sgd has no such option; did you mean 'momentum'?"),
    ("++trainer.epoch=3", "did you mean 'epochs'?"),
    ("lr=0.1", "did you mean 'optimizer.lr'?"),
    ("+optmizer.lr=0.1", "unknown key 'optmizer': did you mean 'optimizer'?"),
    (
        "optimizer.lr=fast",
        "optimizer.lr=fast of optimizer=sgd is a word: must be a number in (0, inf), for example optimizer.lr=",
    ),
    ("optimizer.lr={a:1}", "must be a number"),
    ("optimizer.lr=nan", "must be a finite number"),
    ("optimizer.lr=-0.1", "outside (0, inf)"),
    ("optimizer.lr=0", "optimizer.lr=0 is outside (0, inf): learning rate"),
    ("optimizer.lr=1e-320", "is 0, or nearly, in the numbers that networks compute with"),
    ("optimizer.weight_decay=1e-40", "optimizer.weight_decay=1e-40 is 0, or nearly"),
    ("rule.margin=1e-40", "rule.margin=1e-40 is 0, or nearly"),
    ("optimizer.weight_decay=inf", "must be a finite number"),
    ("noise=1", "outside [0, 1)"),
    ("noise=40", "40 % is written noise=0.4"),
    ("noise=-0.1", "outside [0, 1)"),
    ("noise=nan", "must be a finite number"),
    ("noise.rate=0.4", "write noise=0.4"),
    ("data.batch_size=0", "data.batch_size=0 is outside [1, inf)"),
    ("data.batch_size=many", "must be a whole number"),
    ("seed=1.5", "must be a whole number"),
    ("trainer.epochs=1 trainer.steps=10", "both given"),
    ("trainer.epochs=null", "both missing"),
    ("trainer.device=gpu", "valid: auto, cpu, cuda"),
    ("trainer.device=mps", "trainer.device=mps: credit is tested on cpu and cuda"),
    ("optimizer.lr", "settings are written key=value"),
    ("optimizer.lr 0.1", "settings are written key=value"),
    ("data.root=a{b", "cannot read 'data.root=a{b'"),
    ("noise=0,0.4", "To run each of them add -m"),
    ("optimizer.lr=0.1,0.2", "To run each of them add -m; to give a list write optimizer.lr=[0.1,0.2]"),
    ("seed=${nowhere}", "nowhere"),
    ("--multirum seed=1", "unknown flag '--multirum': did you mean '--multirun'?"),
    ("--config-dir nowhere rule=mine", "no such folder"),
    ("rule=bp --config-dir", "--config-dir needs a word: a folder"),
    ("rule=bp --cfg", "--cfg needs a word: job"),
    ("--cfg rule=bp", "--cfg needs a word: job"),
    ("--cfg foo", "--cfg foo: valid: all, hydra, job"),
    ("--info foo", "--info foo: valid: all, config"),
    ("--resolve", "write --cfg job --resolve"),
    ("--package arch", "write --cfg job --package"),
    ("--run -m", "--run and --multirun are given together"),
    ("-m --cfg job seed=0,1", "--multirun and --cfg are given together"),
    ("-m --info defaults", "--multirun and --info are given together"),
    ("-sc", "--shell-completion needs what to do: install=bash"),
    ("--config-name foo", "--config-name: there is one configuration"),
    ("-cp=foo", "choices of your own are in --config-dir DIR"),
    ("~optimizer.momentum", "~optimizer.momentum would change nothing"),
    ("~optimizer.momentum=0.9", "Write its value: optimizer.momentum=<value>"),
    ("~noise", "noise=none"),
    ("~rule", "rule=<choice>"),
    ("rule=bp,lisp,", "there is an empty value before or after a comma; write rule=bp,lisp"),
    ("-m rule=bp,lisp,", "there is an empty value before or after a comma; write rule=bp,lisp"),
    ("-m rule=bp,,lisp", "write rule=bp,lisp"),
    ("-m optimizer.lr=,0.1", "write optimizer.lr=0.1"),
    ("-m rule=choice(bp,fa,)", "there is an empty value before or after a comma"),
    ("-m optimizer.lr=interval(0.01,0.1)", "list them, as -m optimizer.lr=0.01,0.03,0.1"),
    ("optimizer.lr=interval(0.01,0.1)", "is an interval, and a sweep tries the values it is given"),
    ("-m noise=interval(0,0.4)", "noise=interval(0,0.4) is an interval"),
    ("-m noise=glob(zzz*)", "noise=glob(zzz*) stands for no value"),
    ("optimizer.lr=tag(a,0.1)", "tag() is of a sweep"),
    ("arch.widths=extend_list(4)", "there is no function 'extend_list'"),
    ("rule@foo=bp", "write rule=bp"),
    ("hydra@foo=1", "options are in the group of their own name"),
    ("=1", "'' is no name"),
    ("rule.=1", "'rule.' is no name"),
    ("rule=bp=1", "a value with = in it needs quotes"),
    ("seed=${oc.env:NOT_SET_HERE}", "the environment variable NOT_SET_HERE is not set"),
    ("seed=${oc.env:HOME}", "must be a whole number"),
    ("optimizer.lr=1e-400", "1e-400 is 0 as a floating-point number"),
    ("rule.margin=1e-999", "1e-999 is 0 as a floating-point number"),
    ("optimizer.betas={0.9:1,0.99:2}", "must be a list"),
    ("hydra.run.dir=foo", "hydra.run.dir=foo would change nothing"),
    ("-m hydra.sweeper.max_batch_size=1 seed=0,1", "max_batch_size=1 would change nothing"),
    ("-m hydra/launcher=foo", "unknown hydra/launcher 'foo': valid: basic, local"),
    ("-m hydra/launcher=7", "unknown hydra/launcher '7'"),
]


@pytest.mark.parametrize(("line", "words"), TEXT)
def test_refused_before_anything_heavy(capsys, tmp_path, line, words):
    assert words in refused(capsys, tmp_path, train, line.split(" ") if line != "optimizer.lr 0.1" else [line])


def test_no_words_at_all_are_the_default_run(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "file"))
    assert "set CREDIT_RUNS to a folder that can be written" in refused(capsys, tmp_path, train, [])


@pytest.mark.parametrize("line", ["rule=lisp_margn", "foo=1", "noise=2", "+optimizer.foo=1"])
def test_showing_a_configuration_refuses_it_too(capsys, tmp_path, line):
    refused(capsys, tmp_path, train, ["--cfg", "job", line])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rule.margn=1", "margin"),
        ("+rule.margn=1", "margin"),
        ("arch.width=[8]", "widths"),
        ("rule.margin=wide", "rule.margin"),
        ("arch.activation=rellu", "relu"),
        ("rule.gate=responsiv", "responsive"),
        ("data.batch_size=5000", "data.batch_size=5000"),
        ("arch.norm=batch data.batch_size=1", "batch"),
        (
            "rule.kind=sweeep",
            "there is no such kind of rule; did you mean 'sweep'? valid: dual, equilibrium, lfp, lra, sweep, target_propagation. "
            "Rules are chosen by name",
        ),
        (
            "rule.kind=foo",
            "there is no such kind of rule; valid: dual, equilibrium, lfp, lra, sweep, target_propagation. "
            "Rules are chosen by name: rule=bp",
        ),
        ("rule.kind=lisp_margin", "'lisp_margin' is a rule's name, not a kind of rule: write rule=lisp_margin"),
        ("trainer.measure=[alignmnt]", "did you mean 'alignment'? valid: alignment, descent"),
    ],
)
def test_refused_after_a_look_at_rule_network_and_data_set(capsys, tmp_path, line, words):
    assert words in refused(capsys, tmp_path, train, line.split(" "))


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(capsys, tmp_path):
    assert "cuda" in refused(capsys, tmp_path, train, ["trainer.device=cuda"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "-m seed=0,1,-1",
            "job 3 of 3 (seed=-1) cannot run, so none was started: seed=-1 is outside [0, 9007199254740992]",
        ),
        ("-m noise=0,1.4 seed=0,1", "job 3 of 4 (noise=1.4 seed=0) cannot run, so none was started"),
        ("-m rule=bp,lisp_margn", "job 2 of 2 (rule=lisp_margn)"),
        ("-m rule=bp,lisp_margin rule.margn=1", "job 1 of 2 (rule=bp)"),
        ("-m seed=0,1 data.batch_size=5000", "job 1 of 2 (seed=0)"),
        ("-m seed=0,1 hydra.launcher.jobs=0", "hydra.launcher.jobs=0"),
    ],
)
def test_a_sweep_with_an_invalid_job_starts_none(capsys, tmp_path, line, words):
    assert words in refused(capsys, tmp_path, train, line.split(" "))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lst", "unknown command 'lst': did you mean 'list'?"),
        ("train", "To train use credit-train"),
        ("list ruls", "unknown group 'ruls': did you mean 'rules'?"),
        ("list --config-dir nowhere", "no such folder"),
    ],
)
def test_the_other_command(capsys, tmp_path, line, words):
    assert words in refused(capsys, tmp_path, credit, line.split(" "))


@pytest.mark.parametrize("line", ["rule=lisp_margn", "optimizer.lr=", "-m noise=0,2"])
def test_in_a_process_of_its_own(tmp_path, line):
    done = subprocess.run(
        [sys.executable, "-m", "credit.cli.train", *line.split(" ")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(__file__)))},
    )
    assert done.returncode == 2 and done.stderr.startswith("credit-train: ") and "Traceback" not in done.stderr
    assert list((tmp_path / "here").iterdir()) == []
