"""A run's name and hash: what decides the result is in it, and nothing else."""

import dataclasses
import subprocess
import sys
from collections import Counter

import pytest

from credit.core import registry
from credit.core.config import RunConfig, check
from credit.core.config.compose import compose
from credit.core.option_sets import OptionSet, of_kind
from credit.core.user_files import use_folders
from credit.runs import group_name, run_folder, run_name
from credit.runs.identity import decisive, run_hash


def run(**changes) -> RunConfig:
    base = {
        "rule": {"kind": "sweep", "name": "lisp_margin", "loss": "violations", "margin": 1.0},
        "arch": {"kind": "mlp", "widths": [32]},
    }
    return check({"trainer": {"epochs": 20}, **base, **changes})


def test_the_name_reads_and_ends_in_ten_hex_digits():
    name = run_name(run(noise={"kind": "symmetric", "rate": 0.4}, seed=3))
    assert name.startswith("lisp_margin-mlp-digits-symmetric0.4-s3-")
    assert len(name.rsplit("-", 1)[1]) == 10
    assert run_name(run()).startswith("lisp_margin-mlp-digits-s0-")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"optimizer": {"lr": 0.051}},
        {"rule": {"kind": "sweep", "name": "lisp_margin", "loss": "violations", "margin": 1.5}},
        {"arch": {"kind": "mlp", "widths": [33]}},
        {"noise": {"kind": "symmetric", "rate": 0.1}},
        {"trainer": {"epochs": 21}},
        {"trainer": {"epochs": 20, "precision": "float64"}},
        {"trainer": {"epochs": 20, "sync_batchnorm": False}},
        {"data": {"limit_train": 100}},
        {"schedule": {"kind": "constant"}},
    ],
    ids=str,
)
def test_what_decides_the_result_changes_the_hash(changes):
    assert run_hash(run(**changes)) != run_hash(run())


def test_a_tables_name_and_fold_are_in_the_name_and_in_no_other_runs_hash():
    table = {"kind": "tabular", "name": "credit-g"}
    assert run_name(run(data=table)).startswith("lisp_margin-mlp-tabular_credit-g-f0-s0-")
    hashes = {run_hash(run(data={**table, **more})) for more in ({}, {"fold": 1}, {"folds": 4}, {"fold_seed": 1})}
    assert len(hashes) == 4
    assert not {"name", "fold", "folds", "fold_seed"} & set(decisive(run())["data"])
    assert "augment" not in decisive(run(data=table))["data"] and "betas" not in decisive(run())["optimizer"]


@pytest.mark.parametrize(
    "changes",
    [
        {"logger": {"kind": "wandb", "project": "other", "tags": ["x"]}},
        {"trainer": {"epochs": 20, "progress": False, "threads": 1, "checkpoint_every": 5}},
        {"trainer": {"epochs": 20, "replicate": "processes"}},
        {"replicas": 20},
        {"replicas": "auto"},
        {"data": {"root": "elsewhere", "download": True}},
        {"noise": {"kind": "symmetric", "rate": 0.0}},
        {"noise": {"kind": "none", "rate": 0.0, "seed": 5}},
    ],
    ids=str,
)
def test_what_does_not_decide_it_does_not(changes):
    assert run_name(run(**changes)) == run_name(run())


@pytest.mark.parametrize("group", ["rule", "arch", "data", "noise", "optimizer", "schedule"])
def test_every_option_at_its_default_is_as_if_it_was_not_given(group):
    """Of every kind, with the defaults that the classes have, also options of components."""
    for kind in registry.built_in(group):
        made = of_kind(group, kind)
        for option in made.every():
            given = (
                {option.owner[0]: option.owner[1], option.name: option.default}
                if option.owner
                else {option.name: option.default}
            )
            base = {option.owner[0]: option.owner[1]} if option.owner else {}
            assert made.decisive(made.check(given)) == made.decisive(made.check(base)), (kind, option)


def test_every_other_value_is_another_run_unless_the_option_says_it_decides_nothing():
    spare = {"rule.sparse", "rule.workers"}
    found = {
        f"rule.{one.name}"
        for kind in registry.built_in("rule")
        for one in of_kind("rule", kind).every()
        if not one.meta.result
    }
    assert found == spare
    assert run_hash(run(rule={"kind": "dual", "beta": 0.1})) != run_hash(run(rule={"kind": "dual"}))
    assert run_hash(run(rule={"kind": "sweep", "gate": "inverse", "inverse_scale": 2.0})) != run_hash(
        run(rule={"kind": "sweep", "gate": "inverse"})
    )


def test_a_raised_version_renames_the_runs_of_its_component_alone():
    plain = of_kind("rule", "dual")
    raised = OptionSet("rule", plain.options, "dual", version=2)
    values = plain.check({})
    assert raised.decisive(values) == {**plain.decisive(values), "versions": {"kind": 2}}


def test_a_default_of_the_users_own_option_is_no_other_run(tmp_path):
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "leaky.py").write_text(
        "import dataclasses, credit\nfrom credit.rules.backward.gates import Derivative\n\n\n"
        '@credit.register("gate", "leaky")\n@dataclasses.dataclass(frozen=True)\n'
        "class Leaky(Derivative):\n    leak: float = 0.5\n    floor: float | None = None\n"
    )
    use_folders([tmp_path])
    mine = {"kind": "sweep", "name": "mine", "gate": "leaky"}
    bare = run(rule=mine)
    assert run_name(run(rule={**mine, "leak": 0.5, "floor": None})) == run_name(bare)
    assert run_name(run(rule={**mine, "leak": 0.2})) != run_name(bare)
    use_folders([])


def test_whole_numbers_are_whole_however_written():
    cfg = run()
    cfg.rule["margin"] = 1
    assert run_hash(cfg) == run_hash(run())


def test_seeds_share_a_group_and_nothing_else_does():
    first = run()
    assert group_name(dataclasses.replace(first, seed=7)) == group_name(first)
    assert group_name(run(optimizer={"lr": 0.1})) != group_name(first)
    assert "-s0-" not in group_name(first)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDIT_RUNS", str(tmp_path))
    assert run_folder(run()) == tmp_path / run_name(run())
    monkeypatch.delenv("CREDIT_RUNS")
    assert run_folder(run()).parts[0] == "runs"


def test_odd_names_make_safe_folders():
    cfg = run()
    cfg.rule["name"] = "my rule/../x" + "y" * 300
    name = run_name(cfg)
    assert "/" not in name and " " not in name and len(name) < 140


def test_records_load_without_torch_and_wandb():
    code = "import sys, credit.runs, credit.runs.mirror; sys.exit(any(m in sys.modules for m in ('torch', 'wandb')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SAME = [
    (["rule=dp"], ["rule=dp", "+rule.dfa_map=dense"]),
    (["rule=lfp_epsilon"], ["rule=lfp_epsilon", "rule.composite=null"]),
    (["rule=lfp_epsilon"], ["rule=lfp_epsilon", "rule.composite={}"]),
    (["rule=bp"], ["rule=bp", "rule.margin=1"]),
    (["rule=bp"], ["rule=sweep", "rule.name=bp"]),
    (["rule=bp"], ["rule=bp", "rule.sparse=false", "data.eval_batch_size=10", "trainer.compile=true"]),
    (["rule=bp"], ["rule=bp", "trainer.device=cpu", "trainer.threads=2"]),
    (["rule=rec_lra"], ["rule=rec_lra", "rule.workers=2"]),
    (["rule=bp", "arch=lenet5"], ["rule=bp", "arch=lenet5", "arch.pool=null", "arch.dropout=0"]),
    (["rule=bp", "arch=mlp"], ["rule=bp", "arch=mlp", "arch.dropout=0", "arch.residual_gap=0"]),
    (["rule=bp", "arch=timm"], ["rule=bp", "arch=timm", "arch.patch_size=null", "arch.pretrained=false"]),
    (["rule=bp"], ["rule=bp", "data.hold=decoded", "data.val_split=stratified", "trainer.stop_when=never"]),
    (["rule=bp"], ["rule=bp", "noise=0.0"]),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=lambda words: " ".join(words))
def test_two_spellings_of_one_run_have_one_name(one, other):
    assert run_name(compose(one)) == run_name(compose(other))


def test_a_time_is_measured_of_the_options_of_speed_too():
    two = run(rule={"kind": "lra", "name": "rec_lra", "workers": 2})
    one = run(rule={"kind": "lra", "name": "rec_lra"})
    assert run_name(one) == run_name(two) and run_name(one, speed=True) == run_name(one)
    assert run_name(two, speed=True) != run_name(one, speed=True)
    assert decisive(two, speed=True)["rule"]["workers"] == 2


def test_names_are_made_in_no_time():
    calls: Counter[str] = Counter()
    cfg = run()
    run_name(cfg)
    sys.setprofile(lambda _, event, __: calls.update([event]))
    run_name(cfg)
    sys.setprofile(None)
    assert calls["call"] < 10_000  # Python makes millions a second
