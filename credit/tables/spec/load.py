"""Published tables by name: reads ``conf/paper/<paper>/<table>.yaml`` into a `Spec`; every complaint names file and line.

Here keys are checked, in `credit.tables.spec.parts` and `credit.tables.spec.published` types and words, in
`credit.tables.spec.consistency`
what the parts say of each other. Settings are composed, and so checked, by `credit.tables.expand.jobs`: reading a table must cost
no more than reading a file.
"""

import re
from pathlib import Path

from credit.core.config.folders import choices, search_folders
from credit.core.errors import UserError, nearest
from credit.tables.spec import nodes, parts
from credit.tables.spec.consistency import check_measured, check_spec
from credit.tables.spec.nodes import Defaults, Part
from credit.tables.spec.published import also_of, grid_of, numbers_of, printing_of
from credit.tables.spec.schema import ACCURACIES, BUDGETS, LINES, TESTS, Spec

FOLDER = "paper"
_NEEDED = ("title", "measures", "accuracy", "split", "rows", "columns", "budgets")
_KEYS = (
    *_NEEDED, "source", "test", "settings", "contradictions", "common", "repeat", "cells", "printed", "published", "also_published",
    "diverged", "claims", "figures", "tune", "costs", "lines",
)  # fmt: skip


def names() -> dict[str, str]:
    """Return every table's name, sorted, with one line of description: its file's first comment, else its title."""
    found = choices(FOLDER)
    for name in [name for name, line in found.items() if not line]:
        title = re.search(r"^title:(.*)$", file_of(name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = title[1].strip() if title else ""
    return found


def file_of(name: str) -> Path:
    """Return a table's file; a user's folder goes before the package's.

    Raises:
        UserError: there is no such table; the nearest is named.
    """
    known = choices(FOLDER)
    if name in known:
        for folder in search_folders():
            file = folder / FOLDER / f"{name}.yaml"
            if file.is_file():
                return file
    raise UserError(f"unknown table '{name}': {nearest(name, known)}. A table is conf/paper/<paper>/<table>.yaml")


def load(name: str) -> Spec:
    """Return a published table.

    Args:
        name: ``<paper>/<table>``, as ``lisp/fig3``; see `names`.

    Raises:
        UserError: there is none of this name, or its file is wrong; the message names file, line and nearest valid name.
    """
    whole = nodes.read(file_of(name))
    spec = _spec(name, whole)
    check_spec(spec)
    for part in whole.entries()["measures"].items():
        check_measured(spec, part.text(), part.line)
    return spec


def _spec(name: str, whole: Part) -> Spec:
    top = Defaults(whole, whole.fields(_KEYS, _NEEDED))
    rows = {key: parts.row_of(key, part) for key, part in parts.named(top["rows"]).items()}
    columns = {key: parts.column_of(key, part, rows) for key, part in parts.named(top["columns"]).items()}
    budgets = top["budgets"].fields(BUDGETS, BUDGETS)
    claims = tuple(parts.claim_of(part, rows) for part in top["claims"].items())
    repeat = {key: parts.repeat_of(key, part) for key, part in top["repeat"].entries().items()}
    printed = printing_of(top["printed"])
    tune, claimed = parts.tuning_of(top["tune"], rows), [claim.name for claim in claims]
    return Spec(
        name=name,
        file=whole.file,
        title=top["title"].text(),
        source=top["source"].text() if top.has("source") else "",
        measures=tuple(parts.measure_of(part) for part in parts.filled(top["measures"])),
        accuracy=top["accuracy"].among(ACCURACIES, "word"),
        split=top["split"].text(),
        test=top["test"].among(TESTS, "word") if top.has("test") else TESTS[0],
        settings=tuple(parts.setting_of(part) for part in top["settings"].items()),
        contradictions=tuple(parts.contradiction_of(part) for part in top["contradictions"].items()),
        common=parts.words_of(top["common"]),
        rows=rows,
        columns=columns,
        cells={key: parts.words_of(part) for key, part in grid_of(top["cells"], rows, columns).items()},
        published=numbers_of(top["published"], printed, rows, columns),
        also_published=also_of(top["also_published"], printed, rows, columns, top["measures"].texts()),
        diverged=parts.diverged_of(top["diverged"]) if top.has("diverged") else None,
        claims=claims,
        figures=tuple(parts.figure_of(part, rows, columns) for part in top["figures"].items()),
        budgets={key: parts.budget_of(key, budgets[key], rows, columns, claimed, tune) for key in BUDGETS},
        repeat=repeat,
        costs=parts.costs_of(top["costs"], rows, columns) if top.has("costs") else None,
        lines=top["lines"].among(LINES, "word") if top.has("lines") else LINES[0],
    )
