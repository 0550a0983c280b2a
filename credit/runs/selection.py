"""Select the best row of a sweep by validation accuracy, and report options whose best value is at the edge of those swept.

Rows are compared if they have the same task: the same labels and splits. A row's number is the mean over its seeds. Test accuracy
is not used.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from credit.core.config.schema import SECTIONS
from credit.core.options import of_class

MARK = " *"
"""The mark behind the validation accuracy of the best row."""

FEWEST_VALUES = 3
"""The smallest number of values of an option for which the edge of a sweep is reported."""

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

_NUMBER = "best.val"
_TOLERANCE = 1e-12  # of means of the same accuracies, summed in another order


@dataclass(frozen=True)
class Selection:
    """The best rows of a sweep.

    Attributes:
        best: indices of the best rows.
        lines: explanations to print below the table.
    """

    best: frozenset[int] = frozenset()
    lines: list[str] = field(default_factory=list)

    def mark(self, index: int) -> str:
        """Return the text behind a row's validation accuracy: `MARK`, blanks of its length, or nothing in a table without marks."""
        return "" if not self.best else MARK if index in self.best else " " * len(MARK)


def task_of(options: dict[str, Any]) -> str:
    """Return a text that is equal for configurations whose validation accuracies are comparable.

    Args:
        options: a run's configuration, flat: values by dotted key.
    """
    decides = {key: value for key, value in options.items() if key.startswith(("data.", "noise."))}
    return repr(sorted((key, value) for key, value in decides.items() if key.removeprefix("data.") not in _CHOOSABLE))


def select(rows: Sequence[dict[str, Any]]) -> Selection:
    """Return the best rows of each task, ties included, and the lines to print below the table.

    Args:
        rows: rows of `credit.runs.summary.summarise`. A row is a candidate if all its runs are complete and no other row of its
            task has more runs, because a mean over only the seeds that did not diverge would be biased.
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
        found = {rows[index]["primary"].label for index in best}
        what = found.pop() if len(found) == 1 else "measure"
        lines.append(f"{MARK.strip()} best by validation {what}{of}, the mean over seeds; test {what} chooses nothing.")
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
    """Return whether a row has a validation accuracy for each of its runs, and no fewer runs than the others."""
    number = row[_NUMBER]
    return number is not None and number["n"] == row["runs"] == max(other["runs"] for other in others)


def _top(rows: Sequence[dict[str, Any]], indices: Sequence[int]) -> list[int]:
    score = {index: rows[index][_NUMBER]["mean"] * (1 if rows[index]["primary"].higher else -1) for index in indices}
    top = max(score.values(), default=0.0)
    return [index for index in indices if score[index] >= top - _TOLERANCE]


def _subject(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the labels of the rule and the network, for which options are tuned."""
    return tuple(row["settings"].get(key, "") for key in ("rule", "arch"))


def _at_edges(rows: Sequence[dict[str, Any]], own: Sequence[int], top: Sequence[int]) -> Iterable[str]:
    """Yield a line for each option whose best value is at the edge of the values swept, those of diverged rows included."""
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
    """Return "smallest" or "largest" if all chosen values are at that edge of the values swept, else an empty text.

    A bound of the option's range is no edge, nor is 0 if nothing below 0 was tried. Fewer than `FEWEST_VALUES` values have no edge.

    Args:
        key: dotted name of the option, such as ``optimizer.lr``.
        chosen: its value in each of the equally good settings; None where the option is no number.
        swept: all values tried, in any order.
    """
    if len(set(swept)) >= FEWEST_VALUES and chosen:
        for end, word in ((min(swept), "smallest"), (max(swept), "largest")):
            if all(value == end for value in chosen) and not _is_bound(key, end, swept):
                return word
    return ""


def _is_bound(key: str, value: float, swept: Collection[float]) -> bool:
    """Return whether a value is a bound of the option's range, or 0 with nothing tried below 0."""
    if value == 0:
        return min(swept) == 0
    group, _, name = key.partition(".")
    option = of_class(SECTIONS[group]).get(name) if group in SECTIONS else None
    return option is not None and value in (option.meta.ge, option.meta.le)
