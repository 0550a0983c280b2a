"""Which row of a sweep is best by validation accuracy, and whether its values lie at the edge of those that were swept.

Rows are compared where they have the same task: the same labels and splits. Test accuracy decides nothing. The number of a row
is the mean over its seeds.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from credit.core.config.schema import SECTIONS
from credit.core.options import of_class

MARK = " *"
"""Behind the validation accuracy of the best row."""

FEWEST_VALUES = 3
"""Values of an option that a sweep needs for its edge to mean something."""

_CHOOSABLE = (
    "batch_size",
    "augment",
    "crop_padding",
    "cutout_size",
    "normalize",
    "preprocess",
    "zca_epsilon",
    "drop_last",
)
"""Options of `data` that validation may choose; any other changes which examples a row is trained or evaluated on."""

_NUMBER = "best.val_top1"
_TOLERANCE = 1e-12  # of two means of the same accuracies in another order


@dataclass(frozen=True)
class Selection:
    """The best rows of a sweep, by their index, and lines that say what is marked, what is not, and why."""

    best: frozenset[int] = frozenset()
    lines: list[str] = field(default_factory=list)

    def mark(self, index: int) -> str:
        """Return what stands behind the row's validation accuracy; of the same length for every row of a marked table."""
        return "" if not self.best else MARK if index in self.best else " " * len(MARK)


def task_of(options: dict[str, Any]) -> str:
    """Return a text that is equal for configurations whose validation accuracies can be compared.

    Args:
        options: a run's configuration, flat: values by dotted key.
    """
    decides = {key: value for key, value in options.items() if key.startswith(("data.", "noise."))}
    return repr(sorted((key, value) for key, value in decides.items() if key.removeprefix("data.") not in _CHOOSABLE))


def select(rows: Sequence[dict[str, Any]]) -> Selection:
    """Return the best rows of each task, equals included, and the lines for below the table.

    Args:
        rows: as of `credit.runs.summary.summarise`. A row takes part where all its runs are complete and it has as many as
            any other row of its task: a mean over the seeds that happened to end well is no fair number.
    """
    best: set[int] = set()
    short = False
    edges: dict[str, None] = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        members = [index for index, row in enumerate(rows) if row["task"] == task]
        usable = [index for index in members if _is_whole(rows[index], [rows[other] for other in members])]
        compared = [index for index in members if rows[index][_NUMBER] is not None]
        short |= len(usable) < len(compared)
        if len(members) > 1:
            best |= set(_top(rows, usable))
        for subject in dict.fromkeys(_subject(rows[index]) for index in members):
            own = [index for index in members if _subject(rows[index]) == subject]
            edges |= dict.fromkeys(_at_edges(rows, own, _top(rows, [index for index in usable if index in own])))
    return Selection(frozenset(best), [*_lines(rows, best, short), *edges])


def _lines(rows: Sequence[dict[str, Any]], best: set[int], short: bool) -> list[str]:
    tasks = {row["task"] for row in rows}
    if len(tasks) == len(rows):  # nothing to choose between
        return []
    lines = []
    if best:
        of = " of its data and noise" if len(tasks) > 1 else ""
        lines.append(
            f"{MARK.strip()} best by validation accuracy{of}, the mean over seeds; test accuracy chooses nothing."
        )
    if short:
        lines.append(
            "Rows in which runs diverged, or which have fewer runs than others, are not candidates for the best."
        )
    if all(row[_NUMBER] is None for row in rows if row["status"].get("complete")):
        lines.append(
            "No row is marked as the best: these runs hold out no validation images to choose by, and test images must not "
            "choose. data.val_fraction=0.1 holds some out."
        )
    return lines


def _is_whole(row: dict[str, Any], others: Iterable[dict[str, Any]]) -> bool:
    """Return whether a row has a validation accuracy of every run, and no fewer runs than the others."""
    number = row[_NUMBER]
    return number is not None and number["n"] == row["runs"] == max(other["runs"] for other in others)


def _top(rows: Sequence[dict[str, Any]], indices: Sequence[int]) -> list[int]:
    top = max((rows[index][_NUMBER]["mean"] for index in indices), default=0.0)
    return [index for index in indices if rows[index][_NUMBER]["mean"] >= top - _TOLERANCE]


def _subject(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what options are tuned for: a rule on a network."""
    return tuple(row["settings"].get(key, "") for key in ("rule", "arch"))


def _at_edges(rows: Sequence[dict[str, Any]], own: Sequence[int], top: Sequence[int]) -> Iterable[str]:
    """Yield a line for each option whose best value is at the edge of what a subject was swept over, diverged rows included."""
    shown = {
        key: rows[own[0]]["settings"][key]
        for key in ("rule", "arch", "data", "noise")
        if key in rows[own[0]]["settings"]
    }
    subject = ", ".join(value for key, value in shown.items() if len({row["settings"][key] for row in rows}) > 1)
    for key in dict.fromkeys(key for index in own for key in rows[index]["options"]):
        values = {rows[index]["options"][key] for index in own if key in rows[index]["options"]}
        if word := edge(key, [rows[index]["options"].get(key) for index in top], values):
            tried, more = (
                ", ".join(f"{value:g}" for value in sorted(values)),
                {"smallest": "smaller"}.get(word, "larger"),
            )
            yield (
                f"{subject + ': ' if subject else ''}the best by validation has {key}={rows[top[0]]['options'][key]:g}, the {word} "
                f"of {tried}: a {more} one may be better."
            )


def edge(key: str, chosen: Collection[float | None], swept: Collection[float]) -> str:
    """Return "smallest" or "largest" where the chosen values are at the edge of those that were swept; else nothing.

    The end of an option's range, and 0 where nothing below was tried, is no edge. Nor is one of two values: each is at an edge.

    Args:
        key: the option, ``optimizer.lr``.
        chosen: its value in each of the settings that are equally good; None: the option is no number there.
        swept: all values that were tried, in any order.
    """
    if len(set(swept)) >= FEWEST_VALUES and chosen:
        for end, word in ((min(swept), "smallest"), (max(swept), "largest")):
            if all(value == end for value in chosen) and not _is_bound(key, end, swept):
                return word
    return ""


def _is_bound(key: str, value: float, swept: Collection[float]) -> bool:
    """Return whether there is nothing to try beyond a value."""
    if value == 0:
        return min(swept) == 0
    group, _, name = key.partition(".")
    option = of_class(SECTIONS[group]).get(name) if group in SECTIONS else None
    return option is not None and value in (option.meta.ge, option.meta.le)
