"""The configuration files: each is tied to its options, and has what differs from their defaults alone."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from credit.core.config.folders import conf_folder, describe, settings
from credit.core.config.schema import GROUPS
from credit.core.config.validate import TAGGED, option_set
from credit.core.option_sets import OptionSet

FILES = [
    (group, file) for group in GROUPS if group != "rule" for file in sorted((conf_folder() / group).glob("*.yaml"))
]


def options_of(group: str, file: Path) -> tuple[OptionSet, dict[str, Any]]:
    """Return the options of the file's kind, and what the file and those below it say of them."""
    said = settings(group, file.stem)
    assert said is not None
    kinds = group in ("arch", *TAGGED)
    options = option_set(group, said["kind"] if kinds else "")
    return options, {name: value for name, value in said.items() if group != "arch" or name != "kind"}


@pytest.mark.parametrize(("group", "file"), FILES, ids=[f"{group}={file.stem}" for group, file in FILES])
def test_a_file_says_what_differs_from_the_defaults_of_its_options(group: str, file: Path) -> None:
    assert describe(file), "the first line describes the choice"
    options, said = options_of(group, file)
    options.check(said)
    written = yaml.safe_load(file.read_text()) or {}
    below: dict[str, Any] = {}
    for base in written.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            below |= settings(group, base) or {}
    for name, value in written.items():
        if name == "kind":
            assert below.get("kind") != value
        else:
            assert value != below.get(name, options.own[name].default), f"{name} is as without the line"
