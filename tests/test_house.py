"""The shape of the package: the floors it is drawn in, the sizes of folders, files and functions."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import credit

PACKAGE = Path(credit.__file__).parent
ROOMS, LINES = 15, 400
"""Most entries a folder, and lines a file, may have."""


def _floors() -> dict[str, int]:
    """Return the number of each sub-package's floor, from the bottom, as the package's docstring draws them."""
    assert credit.__doc__ is not None
    drawn = [re.split(r"\s{2,}", line.strip())[0].split(", ") for line in credit.__doc__.splitlines()]
    names = {entry.name for entry in PACKAGE.iterdir() if (entry / "__init__.py").is_file()}
    floors = [line for line in drawn if set(line) <= names]
    assert {name for line in floors for name in line} == names, "the drawing lacks a folder"
    return {name: len(floors) - place for place, line in enumerate(floors) for name in line}


@functools.cache
def _modules() -> dict[str, ast.Module]:
    """Return the package's modules by dotted name, parsed."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def _imports(tree: ast.AST, names: set[str], annotations: bool = True) -> Iterator[str]:
    """Yield the package's modules that a module imports, wherever in it; with `annotations` those under TYPE_CHECKING too."""
    hidden = (
        set() if annotations else {id(inner) for node in ast.walk(tree) if _is_hidden(node) for inner in ast.walk(node)}
    )
    for node in (one for one in ast.walk(tree) if id(one) not in hidden):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module in names:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name if name in names else node.module) for name in inner)


def _is_hidden(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_imports_run_downhill():
    floors, modules = _floors(), _modules()
    upward = [
        f"{name} imports {other}"
        for name, tree in modules.items()
        for other in _imports(tree, set(modules))
        if "." in name and "." in other and floors[other.split(".")[1]] > floors[name.split(".")[1]]
    ]
    assert not upward


def test_folders_of_one_floor_do_not_import_each_other():
    floors, modules = _floors(), _modules()
    across = [
        f"{name} imports {other}"
        for name, tree in modules.items()
        for other in _imports(tree, set(modules))
        if "." in name and "." in other
        and (one := name.split(".")[1]) != (two := other.split(".")[1]) and floors[one] == floors[two]
    ]  # fmt: skip
    assert not across


def test_modules_do_not_import_each_other_in_a_circle():
    modules = _modules()
    graph = {name: set(_imports(tree, set(modules), annotations=False)) - {name} for name, tree in modules.items()}
    waiting = {
        name: below for name, below in graph.items() if name != "credit"
    }  # which offers parts of the upper floors
    while free := [name for name, below in waiting.items() if not below & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting, f"in a circle, or above one: {sorted(waiting)}"


def test_folders_and_files_are_small():
    folders = {PACKAGE, *(file.parent for file in PACKAGE.rglob("*.py"))}
    full = {str(folder): rooms for folder in folders if (rooms := len(_entries(folder))) > ROOMS}
    long = {str(file): lines for file in PACKAGE.rglob("*.py") if (lines := file.read_text().count("\n")) > LINES}
    assert not full and not long


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name not in ("__pycache__", "conf", "py.typed")]
