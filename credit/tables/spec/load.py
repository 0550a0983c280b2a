"""Load published tables by name, from ``conf/paper/<paper>/<table>.yaml``; every error names file and line.

`credit.tables.spec.sections` reads each section by its class, `credit.tables.spec.consistency` checks sections against each other.
Settings are composed, and so checked, by `credit.tables.expand.jobs`: reading a table costs no more than reading a file.
"""

import re
from dataclasses import replace
from pathlib import Path

from credit.core.config.folders import choices, search_folders
from credit.core.errors import UserError, nearest
from credit.tables.spec import nodes
from credit.tables.spec.consistency import check_spec
from credit.tables.spec.schema import BUDGETS, Spec, Tuning
from credit.tables.spec.sections import Reader

FOLDER = "paper"


def names() -> dict[str, str]:
    """Return the names of all tables, sorted, each with the first comment of its file, or its title, as a description."""
    found = choices(FOLDER)
    for name in [name for name, line in found.items() if not line]:
        title = re.search(r"^title:(.*)$", file_of(name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = title[1].strip() if title else ""
    return found


def file_of(name: str) -> Path:
    """Return the file of a table; a user's folder takes precedence over the package's.

    Raises:
        UserError: there is no such table; the message has the nearest name.
    """
    inside = name and not Path(name).is_absolute() and ".." not in Path(name).parts
    for folder in search_folders() if inside else ():
        file = folder / FOLDER / f"{name}.yaml"
        if file.is_file():
            return file
    raise UserError(
        f"unknown table '{name}': {nearest(name, choices(FOLDER))}. A table is conf/paper/<paper>/<table>.yaml"
    )


def load(name: str) -> Spec:
    """Return a published table.

    Args:
        name: ``<paper>/<table>``, as ``lisp/fig3``; see `names`.

    Raises:
        UserError: there is no such table, or an error in its file; the message has file, line and nearest valid name.
    """
    whole = nodes.read(file_of(name))
    top = whole.entries()
    rows, columns = (top[axis].entries() if axis in top else () for axis in ("rows", "columns"))
    claims = [claim.entries() for claim in top["claims"].items()] if "claims" in top else []
    named = [claim["name"].text() for claim in claims if "name" in claim]
    reader = Reader({"row": rows, "column": columns, "claim": named, "budget": BUDGETS})
    if "tune" in top and top["tune"].kind != "empty":
        reader.defaults[Tuning] = reader.section(Tuning, top["tune"])
    spec = reader.section(Spec, whole, name=name, file=whole.file)
    spec = replace(
        spec,
        published={cell: spec.printed.applied(entry) for cell, entry in spec.published.items()},
        also_published={
            measure: {cell: spec.printed.applied(entry) for cell, entry in found.items()}
            for measure, found in spec.also_published.items()
        },
        budgets={key: replace(budget, tune=budget.tune or spec.tune) for key, budget in spec.budgets.items()},
    )
    check_spec(spec, [part.line for part in top["measures"].items()])
    return spec
