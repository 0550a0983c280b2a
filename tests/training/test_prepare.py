"""What cannot work is refused before data is loaded and before a folder is made, in words that teach."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from credit.core.config import check
from credit.core.errors import UserError
from credit.runs import run_folder
from credit.runs.folder import write_config
from credit.training.prepare import prepare, resolve_device, total_steps


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    yield
    assert not Path(os.environ["CREDIT_RUNS"]).exists()


def test_gives_the_parts_of_a_run_that_fit_together(config):
    prepared = prepare(config(trainer={"precision": "float64"}))
    assert prepared.steps_per_epoch == 5 and prepared.total_steps == 10
    assert next(prepared.model.parameters()).dtype == torch.float64
    assert prepared.rule.model is prepared.model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"batch_size": 271}}, r"data.batch_size=271 is larger than the training part, 270 (images|examples)"),
        ({"arch": {"widht": 3}}, r"did you mean 'widths'"),
        ({"arch": {"kind": "mpl", "widths": [16]}}, r"did you mean 'mlp'"),
        ({"rule": {"margn": 3}}, r"did you mean 'margin'"),
        ({"data": {"kind": "digitz"}}, r"did you mean 'digits'"),
        ({"noise": {"kind": "asymmetric", "rate": 0.2}}, r"asymmetric"),
        (
            {"schedule": {"kind": "warmup_cosine", "warmup_epochs": 2.0}},
            r"warmup_epochs=2 is the whole run \(2 epochs\)",
        ),
    ],
)
def test_refuses_what_cannot_work(config, changes, words):
    with pytest.raises(UserError, match=words):
        prepare(config(**changes))


def test_refuses_batch_one_with_batchnorm_naming_the_module(config):
    cfg = config(data={"batch_size": 1})
    prepare(cfg)  # an MLP without BatchNorm can
    cfg = check({**cfg.as_dict(), "arch": {"kind": "plain_conv_bn"}})
    with pytest.raises(UserError, match=r"plain_conv_bn has BatchNorm \('.+'\) and data.batch_size=1.*batch_size=2"):
        prepare(cfg)


def test_takes_batch_one_with_a_norm_that_is_frozen(config):
    cfg = config(data={"batch_size": 1})
    cfg = check({**cfg.as_dict(), "arch": {"kind": "cifar_resnet", "depth": 8, "width": 4}})
    with pytest.raises(UserError, match="cifar_resnet has BatchNorm"):
        prepare(cfg)
    cfg.arch["norm"] = "frozen"
    prepare(cfg)


def test_refuses_a_last_batch_of_one_with_batchnorm(config):
    cfg = config(data={"batch_size": 269, "drop_last": False})
    cfg = check({**cfg.as_dict(), "arch": {"kind": "plain_conv_bn"}})
    with pytest.raises(UserError, match=r"the last batch of an epoch has one example \(270 in batches of 269\)"):
        prepare(cfg)
    prepare(dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, drop_last=True)))


def test_lengths(config):
    cfg = config(trainer={"epochs": 1.5})
    assert total_steps(cfg.trainer, 10) == 15
    assert total_steps(dataclasses.replace(cfg.trainer, epochs=0.001), 10) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_refuses_a_gpu_that_is_not_there():
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="trainer.device=cuda:1: .*no usable GPU.*trainer.device=auto"):
        resolve_device("cuda:1")


def test_refuses_devices_that_runs_are_not_tested_on():
    for name in ("mps", "xpu", "cuda:", "tpu"):
        with pytest.raises(UserError, match=f"trainer.device={name}: credit is tested on cpu and cuda"):
            resolve_device(name)


def test_refuses_a_folder_of_another_config(config, monkeypatch, tmp_path):
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "other"))
    cfg, other = config(), config(optimizer={"lr": 0.123})
    run_folder(cfg).mkdir(parents=True)
    write_config(run_folder(cfg), other)
    with pytest.raises(UserError, match="holds another configuration .different: optimizer.*CREDIT_RUNS"):
        prepare(cfg)
    write_config(run_folder(cfg), config(trainer={"progress": True}))
    prepare(cfg)
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / "none"))
