"""Find the files of the user's code that a run uses, and their digests. Imports no torch.

Found are (1) the file of every component that the run names (rule, gate, feedback, diagnostic, ...) and that is not part of this
package, (2) the modules that such a file imports by any statement, also inside functions, unless they belong to Python's standard
library or are installed, and (3) files beside it that its text names as data (``"table.npy"``), modules
(``import_module("helper")``) or components (``gate: str = "soft"``). For a component of an installed package, all modules of that
package are found. Code that is reached in other ways (``eval``, a path put together at run time) is not found.
"""

import ast
import functools
import hashlib
import importlib.machinery
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from credit.core import registry
from credit.core.errors import UserError
from credit.core.user_files import user_folders

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = tuple(
    {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")}
)
_FIRST: dict[Path, str] = {}
"""Digests of the files at the time this process first read them, by path: the code that it has imported."""


def words_of(value: Any) -> Iterator[str]:
    """Yield every string among the values of nested mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from words_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from words_of(item)


def user_code(words: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the user's files that define components of the given names: ``{name: {"file": path, "sha256": digest}}``.

    Call it after the run's components were built, and so imported.

    Args:
        words: strings of the run's configuration; those that name no component from outside this package are ignored.

    Raises:
        UserError: a file was edited after this process had imported it.
    """
    found: dict[Path, None] = {}
    for name in sorted({module for word in set(words) for module in _modules_behind(word)}):
        _follow(sys.modules[name], found)
    return {_key(path): {"file": str(path), "sha256": _imported(path)} for path in found}


def present_code(recorded: Mapping[str, Mapping[str, str]]) -> dict[str, str | None]:
    """Return the present digests of recorded files by name; None for a file that is gone.

    A file is searched for in the user's folders of this process, then where Python would import it from, then at its recorded path.

    Args:
        recorded: files as returned by `user_code`.
    """
    return {key: _digest_or_none(_now_at(key, entry["file"])) for key, entry in recorded.items()}


def _modules_behind(word: str) -> list[str]:
    """Return the modules outside this package that registered a component of this name."""
    return [name for name in registry.users_modules(word) if _file(sys.modules.get(name))]


def _follow(module: ModuleType, found: dict[Path, None]) -> None:
    """Add a module's file and the files that it imports or names to `found`, in place."""
    file = _file(module)
    assert file is not None
    installed = _is_installed(file)
    if installed:  # all modules of an installed package, any of which it may import
        top = _file(sys.modules.get(module.__name__.partition(".")[0]))
        package = top.parent if top is not None and top.name == "__init__.py" else None
        found.update(dict.fromkeys(sorted(package.rglob("*.py")) if package else [file]))
        return
    waiting: list[tuple[Path, ModuleType | None]] = [(file, module)]
    while waiting:
        path, loaded = waiting.pop()
        if path in found:
            continue
        found[path] = None
        if path.suffix != ".py":
            continue
        beside, names = _named_in(path, _text(path))
        waiting += [(other, None) for other in beside]
        modules = [*(sys.modules.get(name) for name in names), *_in_namespace(loaded)]
        reached = [(_file(one), one) for one in modules]
        reached += [(_findable(name, path), None) for name in names if name not in sys.modules]
        waiting += [(place, one) for place, one in reached if place is not None and _is_users(place)]


def _named_in(path: Path, text: str) -> tuple[list[Path], list[str]]:
    """Return the files beside a Python file that its text names, and the dotted names of the modules it imports."""
    files: list[Path] = []
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1] / Path(*(node.module or "").split("."))
            files += [*_as_files(base), *(file for alias in node.names for file in _as_files(base / alias.name))]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 200:
            files += _beside(path.parent, node.value)
            if node.value.replace(".", "").isidentifier():  # a module for `import_module`, or a component
                files += _as_files(path.parent.joinpath(*node.value.split(".")))
                names += [node.value] if node.value in sys.modules else []
    whole = [".".join(name.split(".")[:count]) for name in names for count in range(1, name.count(".") + 2)]
    return files, list(dict.fromkeys(whole))


def _beside(folder: Path, text: str) -> list[Path]:
    try:
        return [folder / text] if "\0" not in text and (folder / text).is_file() else []
    except OSError:  # the text is no valid path
        return []


def _as_files(path: Path) -> list[Path]:
    return [file for file in (path.with_name(path.name + ".py"), path / "__init__.py") if file.is_file()]


def _in_namespace(module: ModuleType | None) -> list[ModuleType | None]:
    """Return the modules that are values in a loaded module's namespace, or that define such values."""
    values = list(vars(module).values()) if module is not None else []
    own = [value for value in values if isinstance(value, ModuleType)]
    return [*own, *(sys.modules.get(str(getattr(value, "__module__", None))) for value in values)]


def _findable(name: str, importer: Path) -> Path | None:
    """Return the file that a module would be imported from, or None for standard modules and for those not found."""
    first, _, rest = name.partition(".")
    if first in sys.stdlib_module_names or first in sys.builtin_module_names:
        return None
    spec = importlib.machinery.PathFinder.find_spec(first, [str(importer.parent), *sys.path])
    if spec is None:
        return None
    if not rest:
        places = [Path(spec.origin)] if spec.origin is not None else []
    else:  # a package, with or without __init__.py
        packages = spec.submodule_search_locations or ()
        places = [file for package in packages for file in _as_files(Path(package, *rest.split(".")))]
    return places[0].resolve() if places and places[0].is_file() else None


def _file(module: ModuleType | None) -> Path | None:
    origin = getattr(module, "__file__", None)
    path = Path(origin).resolve() if isinstance(origin, str) else None
    return path if path is not None and path.is_file() else None


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or any(path.is_relative_to(place) for place in _INSTALLED)


def _is_users(path: Path) -> bool:
    return not path.is_relative_to(_PACKAGE) and not _is_installed(path)


def _key(path: Path) -> str:
    """Return a file's name in records: relative to the user's folder, else to the folder that contains its package or module."""
    for folder in user_folders():
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return path.relative_to(top).as_posix()


def _now_at(key: str, recorded: str) -> Path:
    for folder in user_folders():
        if (folder / key).is_file():
            return folder / key
    name = key.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return _findable(name, Path(recorded)) or Path(recorded)


def _imported(path: Path) -> str:
    now = _digest(path)
    if _FIRST.setdefault(path, now) != now:
        raise UserError(
            f"{path} was edited after this Python process had imported it: the run would be made with the code as it was. "
            "Start Python anew (in a notebook: restart the kernel)"
        )
    return now


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _digest_or_none(path: Path) -> str | None:
    return _digest(path) if path.is_file() else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def package_code() -> dict[str, str]:
    """Return the digests of this package's sources that decide a run's numbers, by path relative to the package."""
    folders = ("core", "rules", "engine", "models", "data", "training", "diagnostics")
    files = [*_PACKAGE.glob("*.py"), *(file for name in folders for file in (_PACKAGE / name).rglob("*.py"))]
    return {file.relative_to(_PACKAGE).as_posix(): _digest(file) for file in sorted(files)}
