"""From command-line words and files to a run: shorthand, precedence, the user's own folder."""

import os

import pytest

from credit.core.config.compose import compose
from credit.core.config.folders import all_choices, conf_folder, describe
from credit.core.config.overrides import rewrite
from credit.core.config.schema import RATELESS
from credit.core.errors import UserError
from credit.core.user_files import load, use_folders


@pytest.fixture
def folder(tmp_path):
    """A user's folder in use for one test; `write(path, text)` puts a file in it."""
    use_folders([tmp_path])

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    yield write
    use_folders([])


def noise_of(*words):
    noise = compose(words).noise
    return noise.kind, noise.rate


def test_defaults():
    cfg = compose()
    assert (cfg.rule["name"], cfg.arch["kind"], cfg.data.kind, cfg.noise.kind) == (
        "lisp_margin",
        "mlp",
        "digits",
        "none",
    )
    assert (cfg.optimizer.kind, cfg.schedule.kind, cfg.logger.kind, cfg.seed) == ("sgd", "cosine", "files", 0)


@pytest.mark.parametrize(
    ("word", "rewritten"),
    [
        ("noise=0.4", ["noise='0.4'"]),
        ("+noise=.4", ["noise='.4'"]),
        ("noise=0,0.2,pair_flip", ["noise='0','0.2',pair_flip"]),
        ("noise=choice(0,0.4)", ["noise='0','0.4'"]),
        ("+optimizer.lr=1", ["++optimizer.lr=1"]),
        ("arch.widths=[16,16]", ["++arch.widths=[16,16]"]),
        ("trainer.steps=5", ["++trainer.steps=5", "++trainer.epochs=null"]),
        ("experiment=null", []),
        ("hydra.launcher.jobs=2", ["hydra.launcher.jobs=2"]),
        ("hydra/launcher=7", ["hydra/launcher='7'"]),
        ("noise=sort(0.4,0)", ["noise='0','0.4'"]),
        ("noise=range(0,0.4,0.2)", ["noise='0.0','0.2'"]),
        ("rule=glob(bp*)", ["rule=glob(bp*)"]),
        ("seed=${oc.decode:${oc.env:SEED}}", ['++seed="${oc.decode:${oc.env:SEED}}"']),
        ("--cfg", ["--cfg"]),
    ],
)
def test_words_are_rewritten(word, rewritten):
    assert rewrite([word]) == rewritten


def test_a_number_for_noise_is_symmetric_noise():
    assert noise_of("noise=0.4") == ("symmetric", 0.4)
    assert noise_of("noise=4e-1") == ("symmetric", 0.4)
    assert noise_of("noise=0")[1] == 0
    assert noise_of("noise=0.4", "noise.rate=0.1") == ("symmetric", 0.1)
    assert noise_of("noise=pair_flip", "noise.rate=0.3") == ("pair_flip", 0.3)


@pytest.mark.parametrize(
    ("word", "option", "value"),
    [
        ("seed=${oc.env:NUMBER}", "seed", 7),
        ("seed=${oc.decode:${oc.env:NUMBER}}", "seed", 7),
        ("seed=${oc.env:NOT_SET_HERE,3}", "seed", 3),
        ("optimizer.lr=${oc.env:RATE}", "optimizer.lr", 0.1),
        ("rule.margin=${oc.env:RATE}", "rule.margin", 0.1),
        ("optimizer.nesterov=${oc.env:YES}", "optimizer.nesterov", True),
        ("data.augment=${oc.env:LISTED}", "data.augment", ["crop", "flip"]),
        ("data.root=${oc.env:NUMBER}", "data.root", "7"),
        ("data.root=${oc.env:ODD}", "data.root", "/a,b ~{c"),
        ("noise.rate=${optimizer.lr}", "noise.rate", 0.02),
    ],
)
def test_the_environment_is_read_as_the_command_line_is(monkeypatch, word, option, value):
    named = {"NUMBER": "7", "RATE": "1e-1", "YES": "true", "LISTED": "[crop,flip]", "ODD": "/a,b ~{c"}
    for name, text in named.items():
        monkeypatch.setenv(name, text)
    cfg = compose([word, "data=cifar10", "noise=0.1"]).as_dict()
    for key in option.split("."):
        cfg = cfg[key]
    assert cfg == value and type(cfg) is type(value)


def test_files_are_written_as_the_command_line_is(folder):
    folder("experiment/mine.yaml", "# @package _global_\nrule: bp\narch: lenet5\nnoise: 0.3\ntrainer: {epochs: 2}\n")
    cfg = compose(["experiment=mine"])
    assert (cfg.rule["name"], cfg.arch["kind"], cfg.noise.rate, cfg.trainer.epochs) == ("bp", "lenet5", 0.3, 2)
    assert noise_of("experiment=mine", "noise=none") == ("none", 0)
    assert noise_of("experiment=mine", "noise=0.1") == ("symmetric", 0.1)
    assert compose(["experiment=mine", "rule=lisp"]).rule["name"] == "lisp"


def test_a_file_that_changes_counts_at_once(folder, tmp_path):
    """What files compose to is kept in memory, as long as every file that Hydra looked for stays as it is."""
    text = "# @package _global_\ntrainer: {{epochs: {}}}\n"

    def written(epochs, name="experiment/mine.yaml"):
        folder(name, text.format(epochs))
        os.utime(tmp_path / name, (epochs, epochs))  # long ago, so that it may be kept

    def composed(*words):
        return compose(["experiment=mine", *words]).trainer.epochs

    written(2)
    assert [composed(), composed("trainer.epochs=4"), composed()] == [2, 4, 2]
    written(3)
    assert composed() == 3
    folder("experiment/mine.yaml", text.format(5))
    assert composed() == 5
    folder("experiment/mine.yaml", text.format(6))  # as long as before, and perhaps in the same tick of the clock
    assert composed() == 6
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "experiment/mine.yaml").rename(elsewhere / "mine.yaml")
    with pytest.raises(UserError, match="mine"):
        composed()
    (tmp_path / "experiment/mine.yaml").symlink_to(elsewhere / "mine.yaml")
    assert composed() == 6
    (elsewhere / "mine.yaml").write_text(text.format(7))
    assert composed() == 7
    use_folders([])
    with pytest.raises(UserError, match="mine"):
        composed()


def test_a_choice_stays_where_a_file_comes_before_it(folder, tmp_path):
    """A file that was not there is looked for each time; a link to nothing is no file."""
    assert compose(["optimizer=sgd"]).optimizer.lr == 0.05
    folder("optimizer/other.yaml", "")
    (tmp_path / "optimizer/sgd.yaml").symlink_to(tmp_path / "nothing")
    assert compose(["optimizer=sgd"]).optimizer.lr == 0.05
    (tmp_path / "nothing").write_text("kind: sgd\nlr: 0.25\n")
    assert compose(["optimizer=sgd"]).optimizer.lr == 0.25


def test_files_that_name_choices_by_the_environment_follow_it(folder, tmp_path, monkeypatch):
    folder("experiment/mine.yaml", "# @package _global_\noptimizer: ${oc.env:WHICH}\n")
    os.utime(tmp_path / "experiment/mine.yaml", (1, 1))
    for which in ("adam", "sgd", "adam"):
        monkeypatch.setenv("WHICH", which)
        assert compose(["experiment=mine"]).optimizer.kind == which


def test_files_may_use_hydras_own_form(folder):
    folder("experiment/mine.yaml", "# @package _global_\ndefaults:\n  - override /noise: 0.3\nnoise: {seed: 5}\n")
    noise = compose(["experiment=mine"]).noise
    assert (noise.kind, noise.rate, noise.seed) == ("symmetric", 0.3, 5)


def test_steps_and_epochs_exclude_each_other_without_being_told(folder):
    assert (compose(["trainer.steps=7"]).trainer.epochs, compose(["trainer.steps=7"]).trainer.steps) == (None, 7)
    with pytest.raises(UserError, match="both given"):
        compose(["trainer.steps=7", "trainer.epochs=1"])


def test_a_file_that_gives_a_length_clears_the_other(folder):
    folder("experiment/short.yaml", "# @package _global_\ntrainer: {steps: 7}\n")
    folder("experiment/both.yaml", "# @package _global_\ntrainer: {steps: 7, epochs: 3}\n")
    folder("experiment/long.yaml", "# @package _global_\ntrainer: {epochs: 3}\n")
    folder("trainer/mine.yaml", "defaults: [default, _self_]\nsteps: 9\n")

    def length(*words):
        trainer = compose(words).trainer
        return trainer.epochs, trainer.steps

    assert length("experiment=short") == (None, 7)
    assert length("experiment=short", "trainer.steps=8") == (None, 8)
    assert length("experiment=short", "trainer.epochs=2") == (2, None)
    assert length("experiment=short", "trainer.ema=0.9") == (None, 7)
    assert length("experiment=short", "debug=tiny") == (1, None)
    assert length("trainer=mine") == (None, 9)
    assert length("trainer=mine", "experiment=long") == (3, None)
    with pytest.raises(UserError, match="trainer.epochs=3 and trainer.steps=7 are both given"):
        compose(["experiment=both"])


def test_a_data_set_brings_its_network_and_an_explicit_one_wins(folder):
    folder("data/mine.yaml", "kind: digits\ndefaults:\n  - override /arch: lenet5\n  - _self_\n")
    folder("experiment/wide.yaml", "# @package _global_\narch: vgg16\ndata: mine\n")
    assert compose(["data=mine"]).arch["kind"] == "lenet5"
    assert compose(["data=mine", "arch=mlp"]).arch["kind"] == "mlp"
    assert compose(["experiment=wide"]).arch["kind"] == "vgg16"


def test_a_rule_may_bring_its_optimizer(folder):
    folder("rule/mine.yaml", "defaults:\n  - bp\n  - _self_\n  - override /optimizer: adam\nname: mine\n")
    assert compose(["rule=mine"]).optimizer.kind == "adam"
    assert compose(["rule=mine", "optimizer=sgd"]).optimizer.kind == "sgd"


def test_the_headline_run_trains_the_convolutional_network():
    cfg = compose(["rule=lisp_margin", "data=cifar10", "noise=0.4"])
    assert (cfg.rule["name"], cfg.arch["kind"], cfg.noise.rate) == ("lisp_margin", "plain_conv_bn", 0.4)


@pytest.mark.parametrize("group", ["experiment", "debug"])
def test_every_overlay_composes(group):
    for name in all_choices().get(group, {}):
        compose([f"{group}={name}"])


@pytest.mark.parametrize("group", ["rule", "arch", "data", "noise", "optimizer", "schedule", "trainer", "logger"])
def test_every_choice_is_described_and_composes(group):
    for name, description in all_choices()[group].items():
        assert description, f"{group}/{name}.yaml needs a first line that says what it is"
        rate = ["noise.rate=0.1"] if group == "noise" and name not in ("none", *RATELESS) else []
        own = ["data.path=somewhere"] if name in ("csv", "npz", "image_folder") else []
        own += ["data.name=SVHN"] if name == "torchvision" else []
        compose([f"{group}={name}", *rate, *own])


def test_no_file_names_code_to_call():
    for file in conf_folder().rglob("*.yaml"):
        assert "_target_" not in file.read_text(), file
        assert "/" not in describe(file) or "://" not in describe(file)


def test_damaged_files_are_named(folder):
    folder("rule/broken.yaml", "kind: [bp\n")
    folder("rule/listed.yaml", "- bp\n")
    with pytest.raises(UserError, match=r"rule/broken.yaml cannot be read"):
        compose(["rule=broken"])
    with pytest.raises(UserError, match=r"rule/listed.yaml cannot be read: it must hold 'key: value' lines"):
        compose(["rule=listed"])


def test_a_missing_folder_is_refused():
    with pytest.raises(UserError, match="no such folder"):
        use_folders(["surely/not/there"])


def test_a_users_module_is_found_by_name(folder, tmp_path):
    folder("rule/mine.py", "from pathlib import Path\nPath(__file__).with_suffix('.seen').touch()\n")
    assert not load("rule", "other")
    assert load("rule", "mine") and (tmp_path / "rule" / "mine.seen").exists()


def test_an_error_in_a_users_module_is_shown_as_it_is(folder):
    folder("rule/mine.py", "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load("rule", "mine")


def test_a_key_given_twice_is_refused():
    with pytest.raises(UserError, match=r"optimizer.lr is given twice, as 0.1 and as 0.2: keep one"):
        compose(["optimizer.lr=0.1", "optimizer.lr=0.2"])


@pytest.mark.parametrize("words", [["noise=0,0.4", "noise.rate=0.2"], ["noise.rate=0.1,0.2", "noise=none,0.4"]])
def test_a_rate_beside_a_sweep_over_rates_is_refused(words):
    with pytest.raises(UserError, match=r"are several rates, and noise.rate=.* would replace them all: keep one"):
        rewrite(words)
    assert rewrite(["noise=symmetric,pair_flip", "noise.rate=0.2"])
