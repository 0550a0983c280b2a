"""The user's own folders (``--config-dir``): configuration files, and beside them Python files that register components.

``DIR/rule/mine.yaml`` is a choice of the group ``rule``; ``DIR/rule/mine.py`` registers what ``kind: mine`` names, with
``@credit.register("rule", "mine")``. The same holds for every family of `credit.core.registry`: ``DIR/arch/mynet.py``,
``DIR/gate/soft.py``, ``DIR/diagnostic/norms.py``.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from credit.core.errors import UserError

PREFIX = "credit_user_"
"""Beginning of the names of imported modules: ``credit_user_rule.mine``."""

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
                f"--config-dir {folder}: no such folder. It should contain your own choices, for example "
                f"{folder / 'rule' / 'mine.yaml'} with {folder / 'rule' / 'mine.py'} beside it"
            )
    _folders[:] = resolved


def user_folders() -> tuple[Path, ...]:
    """Return the user's configuration folders, first one first in precedence."""
    return tuple(_folders)


def use(name: str) -> None:
    """Add a folder to the user's folders, after those in use, or import the module of this name; see `credit.use`.

    Raises:
        UserError: there is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if folder.resolve() not in _folders:
            use_folders([*_folders, folder])
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # something that the module itself imports
        raise UserError(f"credit.use('{name}'): there is neither a folder nor a module of this name") from None


def names(family: str) -> list[str]:
    """Return the names of a family's Python files in the user's folders, without importing them."""
    return sorted({file.stem for folder in _folders for file in (folder / family).glob("*.py")})


def in_use(module: str) -> bool:
    """Return whether a module is none of a user's folder, or of one that is in use."""
    file = getattr(sys.modules.get(module), "__file__", None) if module.startswith(PREFIX) else None
    return file is None or any(Path(file).is_relative_to(folder) for folder in _folders)


def load(family: str, name: str) -> ModuleType | None:
    """Import the user's file of this name, which registers what it defines, and return it; None where there is none.

    An error inside the file is the user's to read, so it passes through with its traceback.
    """
    for folder in _folders:
        file = folder / family / f"{name}.py"
        if file.is_file():
            module = f"{PREFIX}{family}.{name}"
            known = sys.modules.get(module)
            if known is None or Path(str(known.__file__)) != file:
                _import(module, file)
            return sys.modules[module]
    return None


def _import(name: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{file} cannot be read as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickling look the module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
