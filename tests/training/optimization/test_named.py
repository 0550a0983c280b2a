"""Optimizers of torch and timm by name: their updates, the options that are refused, and replicas in one pass."""

from dataclasses import replace

import pytest
import timm.optim
import torch
from torch import nn

from credit.core.config import check
from credit.core.config.compose import compose
from credit.core.config.schema import OptimizerConfig
from credit.core.errors import UserError
from credit.sweeps.choose import choose
from credit.training import train, train_together
from credit.training.optimization import build_optimizer
from credit.training.optimization.probe import KNOWN, measured, traits
from credit.training.options import NamedOptions
from credit.training.prepare import prepare


def named(kind: str, name: str | None, **options) -> NamedOptions:
    return NamedOptions(kind, lr=0.01, name=name, options=options)


@pytest.mark.parametrize(
    ("cfg", "plain"),
    [
        (named("torch", "RAdam", betas=[0.9, 0.99]), lambda p: torch.optim.RAdam(p, 0.01, betas=(0.9, 0.99))),
        (named("torch", "Adam"), lambda p: torch.optim.Adam(p, 0.01)),
        (named("timm", "lamb", betas=[0.8, 0.9]), lambda p: timm.optim.Lamb(p, 0.01, betas=(0.8, 0.9), weight_decay=0)),
        (named("timm", "sgdw"), lambda p: timm.optim.SGDW(p, 0.01, momentum=0.9, nesterov=True)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_equals_the_librarys_own(cfg, plain):
    torch.manual_seed(0)
    start = [torch.randn(4, 3), torch.randn(5)]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    for optimizer, parameters in ((build_optimizer(cfg, ours[:1], ours[1:]), ours), (plain(theirs), theirs)):
        for step in range(4):
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 0.1 * step - 0.2)
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (named("torch", None), "optimizer.name is missing: which one of torch.optim"),
        (named("torch", "RAdm"), "torch.optim has no optimizer of this name; did you mean 'RAdam'"),
        (named("timm", "Lamb"), "timm.optim has no optimizer of this name; did you mean 'lamb'"),
        (named("torch", "Optimizer"), "has no optimizer of this name"),
        (named("torch", "LBFGS"), "through a closure"),
        (named("torch", "SparseAdam"), "made for sparse gradients"),
        (named("timm", "adahessian"), "second derivatives"),
        (named("timm", "kron"), "no checkpoint keeps"),
        (named("timm", "fusedlamb"), "its package cannot be imported"),
        (named("torch", "RAdam", beta=[0.9, 0.99]), "RAdam has no such option; did you mean 'betas'"),
        (named("torch", "RAdam", betas=[0.9]), "takes 2 values"),
        (named("torch", "RAdam", betas=["a", 0.9]), "optimizer.options.betas=a of RAdam is a word: must be a number"),
        (named("torch", "RAdam", eps=True), "must be a number"),
        (named("torch", "RAdam", eps=-1.0), "refuses these settings .*Invalid epsilon"),
        (named("torch", "RAdam", lr=0.1), "write optimizer.lr=0.1"),
        (named("torch", "RAdam", maximize=True), "no such option"),
        (replace(named("torch", "Rprop"), weight_decay=0.1), "optimizer.weight_decay would change nothing"),
    ],
    ids=str,
)
def test_refusals(cfg, told):
    with pytest.raises(UserError, match=told):
        build_optimizer(cfg, [nn.Parameter(torch.ones(2, 2))], [])


def test_refused_before_training_for_the_network_or_the_schedule(config):
    muon = {"kind": "torch", "name": "Muon", "lr": 0.01}
    with pytest.raises(UserError, match="this network's parameters: Muon only supports 2D"):
        prepare(config("bp", optimizer=muon))
    with pytest.raises(UserError, match="first step alone, so that schedule=cosine would change nothing"):
        prepare(config("bp", optimizer={"kind": "torch", "name": "Rprop"}))
    prepare(config("bp", optimizer={"kind": "torch", "name": "Rprop"}, schedule={"kind": "constant"}))


def test_from_the_command_line_and_in_the_runs_name():
    cfg = compose(["optimizer=torch", "optimizer.name=RAdam", "optimizer.options={betas:[0.9,0.99]}"])
    assert cfg.optimizer == NamedOptions("torch", lr=0.001, name="RAdam", options={"betas": [0.9, 0.99]})
    assert check(cfg.as_dict()) == cfg


@pytest.mark.parametrize("kind", KNOWN)
def test_the_usual_optimizers_are_known_as_they_are_measured(kind):
    assert measured(OptimizerConfig(kind)) == KNOWN[kind]


@pytest.mark.parametrize(
    ("kind", "name", "together"),
    [
        ("torch", "RAdam", True), ("torch", "RMSprop", True), ("torch", "Adafactor", False), ("torch", "NAdam", False),
        ("timm", "lamb", False), ("timm", "lion", True), ("timm", "cadamw", False), ("timm", "adafactorbv", False),
    ],
)  # fmt: skip
def test_measures_what_can_be_stacked(kind, name, together):
    found = traits(named(kind, name))
    assert found.elementwise == together and found.slots >= 1 and found.resumes


def test_replicas_in_one_pass_only_where_the_update_is_number_by_number(config):
    lamb, radam = (
        config("fa", optimizer={"kind": kind, "name": name, "lr": 0.003}, trainer={"replicate": "map"})
        for kind, name in (("timm", "lamb"), ("torch", "RAdam"))
    )
    with pytest.raises(
        UserError, match="cannot train 3 seeds in one pass: optimizer=timm optimizer.name=lamb does not"
    ):
        choose(lamb, 3)
    assert not choose(replace(lamb, trainer=replace(lamb.trainer, replicate="auto")), 3).mapped
    with pytest.raises(UserError, match="train_together: optimizer=timm optimizer.name=lamb does not .*by itself"):
        train_together([lamb, replace(lamb, seed=1)], console=False)
    assert choose(radam, 3).mapped


def test_a_pass_equals_runs_of_their_own(config, tmp_path, monkeypatch):
    cfg = config("bp", optimizer={"kind": "torch", "name": "Adamax", "lr": 0.01}, trainer={"epochs": 5})
    results = []
    for folder in ("alone", "together"):
        monkeypatch.setenv("CREDIT_RUNS", str(tmp_path / folder))
        cfgs = [cfg, replace(cfg, seed=1)]
        results.append(
            [train(one, console=False) for one in cfgs] if folder == "alone" else train_together(cfgs, console=False)
        )
    for alone, pass_ in zip(*results, strict=True):
        assert alone["last"]["test_loss"] == pytest.approx(pass_["last"]["test_loss"], rel=1e-4)
        assert alone["last"]["test_top1"] == pass_["last"]["test_top1"] > 0.3


def test_learned_feedback_has_the_rate_of_its_group():
    weight, own = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(named("torch", "RAdam"), [weight], [own], {"lr": 0.1})
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.1]
