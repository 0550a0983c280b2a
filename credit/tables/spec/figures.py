"""Figures of a table: what each kind shows, and which of the table's runs it needs."""

from dataclasses import dataclass

from credit.core.errors import UserError
from credit.tables.measures import angles
from credit.tables.measures.measures import measure
from credit.tables.spec.claims import place
from credit.tables.spec.measured import check_measured
from credit.tables.spec.schema import Figure, Spec


@dataclass(frozen=True)
class Kind:
    """What a kind of figure shows.

    Attributes:
        always: the one thing that it shows, so that it takes no `measure`; empty: a measure.
        measures: the only values of `measure`; empty: the name of any measure.
        words: `measures` in words.
        needs: measures that runs of the table must have; ``{}`` stands for the figure's.
        runner: the only runner of its columns; empty: any.
    """

    always: str = ""
    measures: tuple[str, ...] = ()
    words: str = ""
    needs: tuple[str, ...] = ()
    runner: str = ""


_LAYERS = Kind(measures=tuple(angles.KEYS), words="a number of each layer's alignment, one of", needs=("alignment",))

KINDS = {
    "layers": Kind("the alignment", needs=("alignment",)),
    "layer_curves": _LAYERS,
    "layer_steps": _LAYERS,
    "gates": Kind("the factor by z", runner="gates"),
    "signals": Kind("the signal by input", runner="shattering"),
    "confusion": Kind("the confusion matrix"),
    "embedding": Kind("t-SNE's points", needs=("embedding.neighbours",)),
    "pruning": Kind(
        measures=("pruning", "pruning_by_layer"), words="the curve of one of the diagnostics", needs=("{}.prunable",)
    ),
    "trade": Kind(needs=("{}", "time_ratio")),
}
_OTHER = Kind(needs=("{}",))


def check_figure(spec: Spec, figure: Figure) -> None:
    """Refuse a figure of cells that the table lacks, or of a measure that the kind does not show or no run has.

    Raises:
        UserError: what to write instead.
    """
    cells = _cells(spec, figure)
    kind = KINDS.get(figure.kind, _OTHER)
    if kind.always and figure.measure is not None:
        raise UserError(f"{figure.kind} always shows {kind.always}: leave `measure` out")
    if kind.measures and figure.measure not in (None, *kind.measures):
        raise UserError(f"{figure.kind} shows {kind.words} {', '.join(kind.measures)}, not {figure.measure}")
    others = [column for _, column in cells if kind.runner not in ("", spec.columns[column].runner)]
    if others:
        raise UserError(f"column '{others[0]}' has no `runner: {kind.runner}`, which measures one")
    shown = figure.measure or (kind.measures or spec.measures)[0]
    for needed in kind.needs:
        check_measured(spec, needed.format(shown))
    if figure.kind in ("curves", "steps") and measure(shown).by_epoch is None:
        raise UserError(f"{shown} is one number a run and has no course by epoch: use bars or lines")
    if figure.kind == "lines" and len({place(spec, row) for row, _ in cells}) < 2:
        raise UserError("lines need two rows or more with different x")


def _cells(spec: Spec, figure: Figure) -> list[tuple[str, str]]:
    cells = spec.grid(figure.rows, figure.columns)
    for row in figure.rows:
        if all(cell[0] != row for cell in cells):
            raise UserError(f"no cell {row}/{' or '.join(figure.columns)}")
    for column in figure.columns:
        if all(cell[1] != column for cell in cells):
            raise UserError(f"column '{column}' has only the rows {', '.join(spec.columns[column].rows)}")
    return cells
