"""Which measures the runs of a table have."""

import re

from credit.core.config.folders import OVERLAYS
from credit.core.errors import UserError
from credit.tables.measures.measures import measure
from credit.tables.spec.schema import Spec


def check_measured(spec: Spec, name: str) -> None:
    """Refuse a measure that no run of the table has.

    Raises:
        UserError: what to add to the table.
    """
    asked = measure(name)
    if asked.timed and spec.costs is None and all(column.runner != "timing" for column in spec.columns.values()):
        raise UserError(f"{name} is measured by no run of the table: give it `costs`, or columns with `runner: timing`")
    if asked.of and not any(row.base for row in spec.rows.values()):
        raise UserError(f"{name} needs a row with a `base`, the row it is held against; no row has one")
    words = [word.lstrip("+").partition("=") for part in spec.every_words() for word in part.words]
    # A choice of the user's may set it, or a reference, and neither can be seen here.
    hidden = any(
        key in ("trainer", *OVERLAYS) or (key == "trainer.measure" and "$" in value) for key, _, value in words
    )
    made = {found for key, _, value in words if key == "trainer.measure" for found in re.findall(r"\w+", value)}
    if asked.diagnostic and asked.diagnostic not in made and not hidden:
        text = f'add "trainer.measure=[{asked.diagnostic}]" to its `common`'
        raise UserError(f"{name} is measured by no run of the table: {text}")
