"""The comparison of every rule: nobody is left out, and everybody gets the same."""

import pytest

from credit.core.config.compose import compose
from credit.core.config.folders import choices
from credit.core.errors import UserError
from credit.tables.expand.jobs import expand
from credit.tables.spec.layers import cell_words
from credit.tables.spec.load import load
from credit.tables.spec.schema import BUDGETS, NO_WORDS
from credit.training.prepare import prepare

LEFT_OUT = {"ste", "sweep"}
"""On networks of ReLU both are backprop."""


def chosen(words: tuple[str, ...]) -> set[str]:
    """Every word but the column's own: a rule, its options, and the adversarial examples of one column."""
    return {word for word in words if not word.startswith(("rule", "trainer.adversarial_epsilon"))}


def test_every_rule_has_a_column() -> None:
    spec = load("all/rules")
    rules = {word.removeprefix("rule=") for column in spec.columns.values() for word in column.set.words[:1]}
    assert rules == set(choices("rule")) - LEFT_OUT
    assert all(column.family for column in spec.columns.values())
    assert all(column.why for column in spec.columns.values() if column.rows)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_rule_gets_the_same_settings(budget: str) -> None:
    spec = load("all/rules")
    here = spec.budgets[budget]
    tune = here.tune
    tried = [NO_WORDS] if tune is None else [candidate + tune.trials for candidate in tune.set]
    for number, tuned in enumerate([NO_WORDS, *tried]):
        by_row: dict[str, set[frozenset[str]]] = {}
        for row, column in spec.cells_in(here):
            words = cell_words(spec, here, row, column, tuned=tuned).words
            by_row.setdefault(row, set()).add(frozenset(chosen(words)))
        assert by_row and all(len(found) == 1 for found in by_row.values()), number


@pytest.mark.parametrize("budget", ["smoke", pytest.param("quick", marks=pytest.mark.slow)])
def test_every_rule_gets_the_same_jobs(budget: str) -> None:
    manifest = expand(load("all/rules"), budget, seeds=1)
    for jobs in (manifest.jobs, manifest.trials, manifest.costs):
        by_place: dict[tuple[str, object], set[frozenset[str]]] = {}
        for job in jobs:
            by_place.setdefault((job.row, job.options.get("candidate")), set()).add(frozenset(chosen(job.words)))
        assert all(len(found) == 1 for found in by_place.values()) and by_place
    assert len({job.row for job in manifest.costs}) * 2 == len({job.row for job in manifest.jobs})


def test_the_paper_budget_crosses_networks_and_data() -> None:
    rows = load("all/rules").rows
    nets, sets = ("mlp", "lenet", "resnet"), ("mnist", "fashion", "cifar10")
    assert list(rows) == [f"{net}_{data}{noise}" for net in nets for data in sets for noise in ("", "_noise")]


def test_contrastive_hebbian_learning_takes_no_residual_network() -> None:
    """As its column says."""
    words = ["data=digits", "rule=chl", "arch=cifar_resnet", "arch.depth=8", "arch.width=8", "arch.norm=none"]
    with pytest.raises(UserError, match="one layer after the other"):
        prepare(compose(words))
