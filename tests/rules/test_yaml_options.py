"""The rules' configuration files against the options of their classes: differences from the defaults, and nothing else."""

from pathlib import Path

import pytest
import yaml

from credit.core.config.folders import conf_folder, describe
from credit.core.option_sets import of_kind
from credit.rules.api import names, options_of, read

FILES = sorted((conf_folder() / "rule").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_rules_file_has_options_of_its_class_that_differ_from_the_defaults(file: Path) -> None:
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    kind = read(file.stem)["kind"]
    assert own.pop("name") == file.stem and describe(file)
    assert own.pop("kind", kind) == kind and ("defaults" not in own or own.pop("defaults"))
    defaults = options_of(kind)
    for option, value in own.items():
        assert option in defaults and value != defaults[option], option
    settings = {key: value for key, value in read(file.stem).items() if key not in ("kind", "name")}
    assert set(settings) <= set(of_kind("rule", kind).check(settings, f"rule '{file.stem}'"))


def test_every_kind_of_rule_is_chosen_by_some_file() -> None:
    assert {read(name)["kind"] for name in names()} == {read(file.stem)["kind"] for file in FILES}
