"""Curves of a cell's completed runs: numbers by epoch or step, by layer and epoch, by pre-activation, by input, and by the
fraction of weights pruned."""

from statistics import fmean

from credit.tables.measures.angles import first_steps, later
from credit.tables.measures.collect import Run, Summary, summarise
from credit.tables.measures.measures import measure


def by_epoch(runs: list[Run], name: str, axis: str = "epoch") -> dict[float, Summary]:
    """Return the summary of a measure over runs at each epoch, in order; empty for a measure without values by epoch.

    Args:
        runs: the cell's runs.
        name: name of the measure.
        axis: ``epoch`` or ``step``.
    """
    number = measure(name).by_epoch
    if number is None:
        return {}
    found: dict[float, list[float]] = {}
    for run in runs:
        for row in run.rows if run.status == "complete" else ():
            value = number(row)
            if value is not None:
                found.setdefault(row[axis], []).append(value)
    return {epoch: summarise(found[epoch], {}) for epoch in sorted(found)}


def by_layer(runs: list[Run]) -> dict[str, dict[float, float]]:
    """Return the mean over runs of the cosine with backprop's update, in per cent, by layer (input first) and epoch."""
    found: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        for row in run.rows if run.status == "complete" else ():
            for layer, compared in (row.get("alignment") or {}).items():
                if compared.get("cosine") is not None:
                    found.setdefault(layer, {}).setdefault(row["epoch"], []).append(100 * compared["cosine"])
    return {layer: {epoch: fmean(course[epoch]) for epoch in sorted(course)} for layer, course in found.items()}


def by_depth(runs: list[Run], key: str, axis: str) -> dict[str, dict[float, float]]:
    """Return the mean over runs of a number of the diagnostic ``alignment``, by layer (input first) and epoch or step.

    Args:
        runs: the cell's runs.
        key: one of `credit.tables.measures.angles.KEYS`.
        axis: ``step`` for the first steps, each measured; ``epoch`` for the others (`credit.tables.measures.angles`).
    """
    found: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        rows = run.rows if run.status == "complete" else []
        for row in first_steps(rows) if axis == "step" else later(rows):
            for layer, compared in row["alignment"].items():
                if key in compared:
                    found.setdefault(layer, {}).setdefault(row[axis], []).append(compared[key])
    return {layer: {at: fmean(course[at]) for at in sorted(course)} for layer, course in found.items()}


def by_place(runs: list[Run]) -> list[tuple[list[float], list[float]]]:
    """Return, for each run of the runner ``gates``, the pre-activations z and the gate's factor at each."""
    gates = [run.result["gate"] for run in runs if run.result and run.status == "complete" and "gate" in run.result]
    return [(gate["z"], gate["factor"]) for gate in gates]


def by_input(runs: list[Run]) -> list[tuple[list[float], list[float]]]:
    """Return, for each run of the runner ``shattering``, the inputs and the error signal at each."""
    found = [run.result["signal"] for run in runs if run.result and run.status == "complete" and "signal" in run.result]
    return [(signal["x"], signal["value"]) for signal in found]


def by_share(runs: list[Run], diagnostic: str) -> dict[float, Summary]:
    """Return the summary over runs of the accuracy in per cent, by per cent of the weights pruned (`credit.diagnostics.pruning`).

    Args:
        runs: the cell's runs.
        diagnostic: ``pruning`` or ``pruning_by_layer``.
    """
    found: dict[float, list[float]] = {}
    for run in runs:
        rows = [row[diagnostic] for row in run.rows if diagnostic in row] if run.status == "complete" else []
        for share, value in rows[-1]["accuracy"].items() if rows else ():
            found.setdefault(float(share[1:]), []).append(100 * value)
    return {share: summarise(found[share], {}) for share in sorted(found)}
