"""Runs that begin with the weights of a finished run: continued they are one longer run, restarted they are a new one."""

import shutil

import pytest

import credit
from credit.cli.train import main
from credit.core.config.compose import compose
from credit.runs.folder import read_result, run_folder
from credit.runs.identity import run_name
from credit.training.state import checkpoint

WORDS = [
    "data=digits", "data.limit_train=200", "data.limit_test=50", "arch.widths=[12,8]", "arch.dropout=0.2", "trainer.device=cpu",
    "optimizer=adam", "schedule=constant", "trainer.ema=0.9", "trainer.progress=false",
]  # fmt: skip


def trained(*words: str) -> dict:
    assert main([*WORDS, *words]) == 0
    result = read_result(run_folder(compose([*WORDS, *words])))
    assert result is not None
    return result


@pytest.mark.parametrize("rule", ["lisp_margin", pytest.param("dtp", marks=pytest.mark.slow)])
def test_a_continued_run_is_the_longer_run_bit_for_bit(rule):
    first = trained(f"rule={rule}", "trainer.epochs=2")
    whole = trained(f"rule={rule}", "trainer.epochs=3")
    more = ["trainer.epochs=3", f"trainer.init_from={first['name']}", "trainer.init_schedule=continue"]
    continued = trained(f"rule={rule}", *more)
    assert continued["weights_sha256"] == whole["weights_sha256"] != first["weights_sha256"]
    assert continued["last"]["test_loss"] == whole["last"]["test_loss"] and continued["steps"] == whole["steps"]
    words = "steps and schedule go on there"
    assert any(first["name"] in note and words in note for note in continued["notes"])
    assert credit.load(run_folder(compose([*WORDS, f"rule={rule}", *more]))).metrics()["test_loss"] > 0


def test_a_restarted_run_begins_with_the_weights_and_its_own_settings():
    first = trained("rule=bp", "trainer.epochs=2")
    more = [
        "rule=bp", "trainer.steps=1", "trainer.epochs=null", f"trainer.init_from={first['name']}", "optimizer.lr=1e-9",
        "optimizer.betas=[0.5,0.9]", "seed=3", "noise=0.2",
    ]  # fmt: skip
    again = trained(*more)
    assert again["steps"] == 1 and any("steps and schedule begin anew" in note for note in again["notes"])
    one, other = (run_folder(compose([*WORDS, *words])) for words in (["rule=bp", "trainer.epochs=2"], more))
    before, after = (checkpoint.read(checkpoint.path_of(folder, steps)) for folder, steps in ((one, 10), (other, 1)))
    for name, value in before["model"].items():
        assert (value - after["model"][name]).abs().max() < 1e-7, name
    assert after["optimizer"]["param_groups"][0]["betas"] == (0.5, 0.9)
    assert after["optimizer"]["state"][0]["step"] == 11  # of Adam's moments, which went on


def test_an_interrupted_run_goes_on_from_its_own_checkpoint(monkeypatch, tmp_path):
    from credit.data import Batches

    first = trained("rule=bp", "trainer.epochs=1")
    words = ["rule=bp", "trainer.epochs=3", f"trainer.init_from={first['name']}"]
    at, stops = Batches.at, [3]

    def interrupted_at(self, step):
        if step in stops:
            stops.remove(step)
            raise KeyboardInterrupt
        return at(self, step)

    monkeypatch.setattr(Batches, "at", interrupted_at)
    assert main([*WORDS, *words]) == 130
    pieces = trained(*words)
    shutil.rmtree(run_folder(compose([*WORDS, *words])))
    assert trained(*words)["weights_sha256"] == pieces["weights_sha256"]


def test_the_weights_of_the_other_run_are_part_of_the_identity(monkeypatch, tmp_path):
    first = trained("rule=bp", "trainer.epochs=1")
    other = trained("rule=bp", "trainer.epochs=1", "seed=1")
    names = {
        run_name(compose([*WORDS, "rule=bp", *words]))
        for words in ([], [f"trainer.init_from={first['name']}"], [f"trainer.init_from={other['name']}"])
    }
    assert len(names) == 3
    path = run_folder(compose([*WORDS, "rule=bp", "trainer.epochs=1"])).resolve()
    assert run_name(compose([*WORDS, "rule=bp", f"trainer.init_from={path}"])) in names


REFUSED = [
    (["trainer.init_from=nothing"], "trainer.init_from=nothing: nothing: there is no such folder, and no run of this name"),
    (["trainer.init_from={}", "rule=fa"], "that run has other settings of rule.feedback_weights; give this one the same"),
    (["trainer.init_from={}", "arch.widths=[13,8]"], "other settings of arch.widths"),
    (["trainer.init_from={}", "optimizer=sgd"], "other settings of optimizer.kind"),
    (["trainer.init_from={}", "trainer.warm_rule=fa", "trainer.warm_steps=1"], "leave out trainer.warm_rule=fa"),
    (
        ["trainer.init_from={}", "trainer.init_schedule=continue", "seed=1", "noise=0.2", "trainer.epochs=3"],
        "that run has other settings of noise.kind, noise.rate, seed; give this one the same (trainer.init_schedule=restart",
    ),
    (
        ["trainer.init_from={}", "trainer.init_schedule=continue"],
        "that run ended at step 5, and this one ends at step 5; give trainer.epochs or trainer.steps the length of both",
    ),
    (["trainer.init_schedule=continue"], "trainer.init_schedule=continue would change nothing"),
]  # fmt: skip


def test_bad_input(capsys):
    first = trained("rule=bp", "trainer.epochs=1")["name"]
    for words, message in REFUSED:
        given = [word.format(first) for word in words]
        keys = {word.split("=")[0] for word in given}
        kept = [word for word in (*WORDS, "rule=bp", "trainer.epochs=1") if word.split("=")[0] not in keys]
        assert main([*kept, *given]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_unfinished_and_damaged_runs_are_refused(capsys):
    first = trained("rule=bp", "trainer.epochs=1")
    folder = run_folder(compose([*WORDS, "rule=bp", "trainer.epochs=1"]))
    words = [*WORDS, "rule=bp", "trainer.epochs=2", f"trainer.init_from={first['name']}"]
    checkpoint.path_of(folder, 5).write_bytes(b"nothing")
    assert main(words) == 2
    assert "checkpoint step-000000005.ckpt is damaged" in capsys.readouterr().err
    (folder / "result.json").unlink()
    assert main(words) == 2
    assert "has no result yet: the run is unfinished" in capsys.readouterr().err
