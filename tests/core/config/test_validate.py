"""From a mapping to a checked run: what is accepted, and the words of every refusal."""

import math

import pytest

from credit.core.config import RunConfig, check
from credit.core.errors import UserError

LEAST = {"rule": {"kind": "sweep", "name": "bp"}, "arch": {"kind": "mlp"}, "trainer": {"epochs": 2}}


def test_defaults_and_round_trip():
    cfg = check(LEAST)
    assert isinstance(cfg, RunConfig) and cfg.data.kind == "digits" and cfg.trainer.epochs == 2.0
    assert check(cfg.as_dict()) == cfg


def test_noise_may_be_a_number():
    noisy = check({**LEAST, "noise": 0.4}).noise
    assert (noisy.kind, noisy.rate) == ("symmetric", 0.4)
    assert check({**LEAST, "noise": 0}).noise.kind == "none"


def test_whole_floats_count_as_whole_numbers():
    assert check({**LEAST, "data": {"batch_size": 64.0}}).data.batch_size == 64


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lr": 0.1}, "did you mean 'optimizer.lr'"),
        ({"optmizer": {}}, "did you mean 'optimizer'"),
        (
            {"optimizer": {"momentun": 0.1}},
            "optimizer.momentun=0.1: optimizer=sgd has no such option; did you mean 'momentum'",
        ),
        (
            {"noise": 1.0},
            "noise.rate=1 is outside [0, 1): the rate is a fraction of the labels; 40 % is written noise=0.4",
        ),
        ({"noise": 40}, "not noise=40"),
        ({"noise": -0.1}, "noise.rate=-0.1 is outside [0, 1)"),
        ({"noise": {"kind": "none", "rate": 0.2}}, "write noise=0.2"),
        ({"noise": {"kind": "symetric"}}, "did you mean 'symmetric'"),
        ({"noise": {"kind": "symmetric", "rate": math.nan}}, "must be a finite number"),
        ({"optimizer": {"lr": math.inf}}, "optimizer.lr=inf: must be a finite number in (0, inf)"),
        ({"optimizer": {"lr": -1}}, "optimizer.lr=-1 is outside (0, inf)"),
        (
            {"optimizer": {"lr": "fast"}},
            "optimizer.lr=fast of optimizer=sgd is a word: must be a number in (0, inf), for example optimizer.lr=0.05",
        ),
        ({"optimizer": {"lr": True}}, "optimizer.lr=true of optimizer=sgd is true or false: must be a number"),
        ({"optimizer": {"kind": "adam", "betas": [0.9]}}, "must be two numbers"),
        ({"optimizer": {"kind": "adam", "betas": [0.9, 1.0]}}, "optimizer.betas=1 is outside [0, 1)"),
        (
            {"optimizer": {"kind": "adam", "momentum": 0.5}},
            "optimizer.momentum=0.5 would change nothing: it is read with optimizer=sgd alone, and here optimizer=adam; leave",
        ),
        (
            {"optimizer": {"nesterov": True, "momentum": 0}},
            "it is read with optimizer.momentum above 0 alone, and here optimizer.momentum=0",
        ),
        ({"schedule": {"kind": "step"}}, "write schedule.milestones=[10,15]"),
        ({"schedule": {"kind": "step", "milestones": [4, 2]}}, "must be increasing"),
        ({"schedule": {"kind": "warmup_cosine", "warmup_epochs": 3}}, "longer than the run"),
        ({"data": {"batch_size": 0}}, "data.batch_size=0 is outside [1, inf)"),
        (
            {"data": {"batch_size": 2.5}},
            "data.batch_size=2.5 of data=digits is a number: must be a whole number in [1, inf), for example",
        ),
        ({"data": {"augment": "crop"}}, "is a word: must be a list of words, written data.augment=[a,b]"),
        ({"data": {"augment": ["crop", "flap"]}}, "did you mean 'flip'"),
        ({"data": {"val_fraction": 1}}, "data.val_fraction=1 is outside [0, 1)"),
        ({"trainer": {"epochs": None}}, "both missing: write trainer.epochs=20"),
        ({"trainer": {"epochs": 1, "steps": 5}}, "both given"),
        ({"trainer": {"epochs": 0}}, "trainer.epochs=0 is outside (0, inf)"),
        ({"trainer": {"steps": {"a": 1}}}, "must be a whole number"),
        (
            {"trainer": {"epochs": 1, "device": "gpu"}},
            "trainer.device=gpu: credit is tested on cpu and cuda",
        ),
        ({"trainer": {"epochs": 1, "precision": "fp16"}}, "valid: bf16, float32, float64"),
        ({"seed": -1}, "seed=-1 is outside [0, 9007199254740992]"),
        ({"seed": math.nan}, "seed=nan: must be a finite number"),
        ({"replicas": 0}, "replicas=0 is outside [1, inf)"),
        ({"replicas": -3}, "replicas=-3 is outside [1, inf)"),
        (
            {"replicas": 1.5},
            "replicas=1.5 is a number: must be a whole number or auto in [1, inf), for example replicas=1",
        ),
        (
            {"replicas": "many"},
            "replicas=many is a word: must be a whole number or auto in [1, inf), for example replicas=1",
        ),
        ({"replicas": True}, "replicas=true is true or false: must be a whole number or auto"),
        ({"replicas": 20, "seed": 9007199254740990}, "is outside [0, 9007199254740992]"),
        (
            {"trainer": {"epochs": 1, "replicate": "mapp"}},
            "trainer.replicate=mapp: trainer has no such choice; did you mean 'map'?",
        ),
        ({"rule": "bp"}, "'- override /rule: <choice>'"),
        ({"rule": {}}, "rule.kind is missing"),
        ({"arch": {"kind": "vgg16", "pretrained": ""}}, "arch.pretrained= is empty (from a variable that is not set?)"),
        ({"arch": {"kind": "timm", "name": " "}}, "arch.name= is empty"),
        ({"data": {"path": ""}}, "data.path= is empty (from a variable that is not set?): write a value, or leave"),
        ({"data": {"root": ""}}, "data.root= is empty"),
        ({"data": {"classes": ["ant", ""]}}, "data.classes= is empty"),
        ({"trainer": {"warm_rule": ""}}, "trainer.warm_rule= is empty"),
        (
            {"rule": {"kind": "sweep", "loss": "violations", "margin": math.nan}},
            "rule.margin=nan: must be a finite number",
        ),
        (
            {"arch": {"kind": "mlp", "widths": [8, math.inf]}},
            "arch.widths=[8,inf] of arch 'mlp' has 'inf' as item 2, which is no whole number",
        ),
    ],
)
def test_refusals_teach(given, words):
    with pytest.raises(UserError) as refused:
        check({**LEAST, **given})
    assert words in str(refused.value)
