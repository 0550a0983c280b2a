"""`credit list GROUP=CHOICE`: the options of a choice as a table, made from their definitions."""

import pytest

from credit.cli.listing import option_table
from credit.cli.main import main as credit
from credit.cli.train import main as train
from credit.core.config.folders import choices, settings
from credit.core.config.schema import GROUPS
from credit.core.config.validate import TAGGED, option_set
from credit.core.options import written

EVERY = [(group, choice) for group in GROUPS for choice in choices(group)]


@pytest.mark.parametrize(("group", "choice"), EVERY, ids=[f"{group}={choice}" for group, choice in EVERY])
def test_every_choice_has_a_table_of_its_options(group, choice):
    table = option_table(group, choice, 100)
    assert all(len(line) <= 100 and line == line.rstrip() for line in table.splitlines())
    given = settings(group, choice) or {}
    options = option_set(group, given["kind"] if group in ("rule", "arch", *TAGGED) else "")
    rows = {line.split()[0]: line for line in table.splitlines()[3:] if line[:2] == "  " and line[2:3].strip()}
    for name, option in options.own.items():
        if name != "kind" and options.condition(option) is not None:
            default = written(given.get(name, option.default))
            assert name in rows and (default in rows[name] or len(default) > 14), name


def test_a_table_has_range_default_source_and_condition():
    table = option_table("arch", "spiking_mlp", 100)
    for words in ("beta", "a number in (0, 1]", "0.9", "[LFP, Eq. A.14]", "read with", "arch.reset other than none"):
        assert words in table
    assert "lr            a number in (0, inf)        0.001" in option_table("optimizer", "adam", 100)  # of its file
    tabular = option_table("data", "tabular", 100)
    assert "fold_seed" in tabular and "image_size" not in tabular and "augment " not in tabular
    gates = option_table("rule", "lisp", 100)
    assert "with rule.gate=inverse:" in gates and gates.index("inverse_scale") > gates.index("with rule.gate=inverse:")


def test_tables_are_asked_for_by_group_and_choice(capsys):
    assert credit(["list", "noise=none", "trainer"]) == 0
    shown = capsys.readouterr().out
    assert "noise=none" in shown and "seed of the noise" in shown and "measure_every" in shown
    for words, said in {
        "arch=mpl": "did you mean 'mlp'",
        "archs=mlp": "did you mean 'arch'",
        "debug=tiny": "no group",
    }.items():
        assert credit(["list", words]) == 2
        assert said in capsys.readouterr().err


def test_a_renamed_noise_is_refused_with_its_new_name(capsys):
    assert train(["noise=redraw", "rule=bp"]) == 2
    assert "noise=redraw: this noise is named uniform now: noise=uniform" in capsys.readouterr().err
