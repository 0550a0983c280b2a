"""Rules and diagnostics outside this package: found by name in the user's folders, rules also among installed packages.

A user's folder (``--config-dir DIR``) holds ``DIR/rule/mine.yaml`` and, beside it, ``DIR/rule/mine.py``, which
registers itself with ``@credit.register_rule("mine")``. An installed package names its module under the entry-point
group ``credit.rules``. The registry of rules asks `discover_rule` when a name is not one of its own.
A diagnostic for ``trainer.measure=[mine]`` is ``DIR/diagnostic/mine.py``, which registers itself with
``@credit.diagnostics.register("mine")``.
"""

import functools
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from credit.core.errors import UserError

ENTRY_POINTS = "credit.rules"

_folders: list[Path] = []


def use_folders(folders: Iterable[str | Path]) -> None:
    """Make `folders` the user's configuration folders of this process, replacing earlier ones.

    Raises:
        UserError: one of them is not a folder.
    """
    resolved = [Path(folder).expanduser().resolve() for folder in folders]
    for folder in resolved:
        if not folder.is_dir():
            raise UserError(
                f"--config-dir {folder}: no such folder. It should hold your own choices, for example "
                f"{folder / 'rule' / 'mine.yaml'} with {folder / 'rule' / 'mine.py'} beside it"
            )
    _folders[:] = resolved


def user_folders() -> tuple[Path, ...]:
    """Return the user's configuration folders, first one first in precedence."""
    return tuple(_folders)


def discover_rule(kind: str) -> bool:
    """Import the module that defines rule `kind`; importing it registers the rule. False where nobody defines it.

    An error inside the user's module is the user's to read, so it passes through with its traceback.
    """
    if _discover("rule", kind):
        return True
    for entry in _entries():
        if entry.name == kind:
            entry.load()
            return True
    return False


def discover_diagnostic(name: str) -> bool:
    """Import the user's file that defines diagnostic `name`; False where there is none."""
    return _discover("diagnostic", name)


def user_diagnostics() -> list[str]:
    """Return the names of the diagnostics in the user's folders, without importing them."""
    return sorted({file.stem for folder in _folders for file in (folder / "diagnostic").glob("*.py")})


def entry_rule_names() -> list[str]:
    """Return the names of the rules that installed packages offer."""
    return sorted(entry.name for entry in _entries())


@functools.cache
def _entries() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))


def _discover(group: str, name: str) -> bool:
    for folder in _folders:
        file = folder / group / f"{name}.py"
        if file.is_file():
            _import_file(group, file)
            return True
    return False


def _import_file(group: str, file: Path) -> None:
    name = f"credit_user_{group}s.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{group} '{file.stem}': {file} cannot be read as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickling look the module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
