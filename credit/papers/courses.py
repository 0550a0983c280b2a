"""How a number went on during training: by epoch, and by layer and epoch, over a cell's completed runs."""

from statistics import fmean

from credit.papers.collect import Run, Summary, summarise
from credit.papers.measures import measure


def by_epoch(runs: list[Run], name: str) -> dict[float, Summary]:
    """Return mean and spread over the runs of a measure at each epoch that has it, in order; empty for one without a course."""
    number = measure(name).by_epoch
    if number is None:
        return {}
    found: dict[float, list[float]] = {}
    for run in runs:
        for row in run.rows if run.status == "complete" else ():
            value = number(row)
            if value is not None:
                found.setdefault(row["epoch"], []).append(value)
    return {epoch: summarise(found[epoch], {}) for epoch in sorted(found)}


def by_layer(runs: list[Run]) -> dict[str, dict[float, float]]:
    """Return the cosine with backprop's update, in per cent, by layer from the input on, and by epoch: means over runs."""
    found: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        for row in run.rows if run.status == "complete" else ():
            for layer, compared in (row.get("alignment") or {}).items():
                if compared.get("cosine") is not None:
                    found.setdefault(layer, {}).setdefault(row["epoch"], []).append(100 * compared["cosine"])
    return {layer: {epoch: fmean(course[epoch]) for epoch in sorted(course)} for layer, course in found.items()}
