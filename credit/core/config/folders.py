"""The folders of configuration files and the choices in them, read as text; imports nothing heavy."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from credit.core import registry, user_files
from credit.core.config.schema import GROUPS
from credit.core.errors import UserError, nearest
from credit.core.reading import read_text, reading
from credit.core.user_files import user_folders

OVERLAYS = ("experiment", "debug")
"""Groups whose files describe no part of a run: they override values in the other groups."""


def conf_folder() -> Path:
    """Return the folder of the package's own configuration files: inside an installed wheel, else the source tree's."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise UserError(
        f"the configuration files are missing: no conf/config.yaml in {package} or beside it. Reinstall credit"
    )


def search_folders() -> tuple[Path, ...]:
    """Return every folder with configuration files, the user's before the package's."""
    return (*user_folders(), conf_folder())


def choices(group: str) -> dict[str, str]:
    """Return the names a group offers, sorted, each with one line of description (its file's first comment)."""
    found: dict[str, str] = {}
    if group in registry.HOMES:
        found.update(dict.fromkeys(registry.installed(group), "from an installed package"))
    if group in ("arch", "data", "noise", "optimizer", "schedule"):  # beside a rule's file lie files of its components
        found.update(dict.fromkeys(user_files.names(group), "from your folder"))
    for folder in reversed(search_folders()):
        for file in (folder / group).rglob("*.yaml"):
            name = file.relative_to(folder / group).with_suffix("").as_posix()
            found[name] = describe(file)
    return dict(sorted(found.items()))


def rule_settings(name: str) -> dict[str, Any] | None:
    """Return what a rule's YAML says, with the files it builds on and its name; None where no folder has one."""
    found = settings("rule", name)
    return None if found is None else found | {"name": name}


def rule_kind(name: str) -> registry.Component:
    """Return the kind of rule of this name.

    Raises:
        UserError: there is none; that rules are chosen by name, where one is called so.
    """
    found = registry.known("rule", name)
    if found is None and name in choices("rule"):
        raise UserError(f"rule.kind={name}: '{name}' is a rule's name, not a kind of rule: write rule={name}")
    if found is None:
        valid = nearest(name, registry.names("rule"))
        raise UserError(f"rule.kind={name}: there is no such kind of rule; {valid}. Rules are chosen by name: rule=bp")
    return found


def settings(group: str, name: str) -> dict[str, Any] | None:
    """Return what a choice's YAML says, with the files it builds on; None where no folder has one."""
    for folder in search_folders():
        file = folder / group / f"{name}.yaml"
        if file.is_file():
            return _settings_of(group, file)
    return None


def _settings_of(group: str, file: Path) -> dict[str, Any]:
    with reading(file, "YAML", "mend it"):
        content = yaml.safe_load(read_text(file)) or {}
    if not isinstance(content, dict):
        raise UserError(f"{file} cannot be read: it must hold 'key: value' lines, not a {type(content).__name__}")
    check_defaults(file, content.get("defaults", []))
    found: dict[str, Any] = {}
    for base in content.pop("defaults", []):
        # An entry with a colon is a choice in another group (the rule's usual optimizer): not the choice's own.
        if isinstance(base, str) and base != "_self_":
            below = settings(group, base.removeprefix(f"/{group}/"))
            if below is None:
                raise UserError(f"{file} builds on {base}: {nearest(base, choices(group))}")
            found |= below
    return found | content


def check_defaults(file: Path | str, given: object) -> None:
    """Refuse a file's list of defaults that cannot be followed.

    Raises:
        UserError: it is no list of names and of ``group: name``.
    """
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    if not listed or not all(isinstance(entry, str | Mapping) and entry for entry in given):  # type: ignore[attr-defined]
        raise UserError(
            f"{file} cannot be read: defaults must be a list of names, or of group: name, such as [bp, _self_], and is "
            f"{' '.join(str(given).split())[:100]}"
        )


def describe(file: Path) -> str:
    """Return the first comment line of a YAML file that is text for people, without its mark; empty where none."""
    for line in read_text(file).splitlines():
        text = line.strip()
        if text.startswith("#") and not text.startswith("# @"):
            return text.lstrip("# ").strip()
        if text and not text.startswith("#"):
            break
    return ""


def all_choices() -> dict[str, dict[str, str]]:
    """Return `choices` of every group that has any."""
    offered = {group: choices(group) for group in (*GROUPS, *OVERLAYS)}
    return {group: names for group, names in offered.items() if names}


def credit_version() -> str:
    """Return the installed version, or a word for a source tree that is not installed."""
    try:
        return version("credit")
    except PackageNotFoundError:
        return "not installed"
