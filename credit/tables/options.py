"""The runners of a table's cells, with their options, and the kinds of its figures. Imports neither torch nor matplotlib."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from credit.core.option_sets import of_options
from credit.core.options import opt
from credit.core.registry import component, declare, find

declare("runner", {"train": "credit.tables.runners.training"})


@component("runner", "trees", "credit.tables.runners.trees")
@dataclass(frozen=True)
class TreesOptions:
    """Gradient-boosted trees, for comparison."""

    model: str = opt(MISSING, "library", choices=("lightgbm", "xgboost"))
    params: dict[str, Any] = opt({}, "parameters of the library's scikit-learn classifier, such as {n_estimators: 200}")
    threads: int = opt(1, "threads of the library", ge=1, result=False)


@component("runner", "gates", "credit.tables.runners.gates")
@dataclass(frozen=True)
class GatesOptions:
    """The factor of a gate by pre-activation z."""

    reach: float = opt(10.0, "the largest |z| to show", gt=0, le=1000)


@component("runner", "shattering", "credit.tables.runners.shattering")
@dataclass(frozen=True)
class ShatteringOptions:
    """The error signal at the input of an untrained network."""

    lags: int = opt(10, "number of lags of the autocorrelation", ge=1)


@component("runner", "timing", "credit.tables.runners.timing")
@dataclass(frozen=True)
class TimingOptions:
    """The time of a training step beside that of another column."""

    against: str = opt("", "column whose step is the unit of time")
    seconds: float = opt(10.0, "duration of the measurement in seconds", gt=0, result=False)


def runner_options(name: str, given: Mapping[str, Any]) -> Any:
    """Return a runner's options, typed and in range, as an instance of their class.

    Raises:
        UserError: an unknown option, or a value that does not fit.
    """
    options = of_options("options", find("runner", name).options)
    return options.make(options.check(given, f"the runner {name}"))


_PLOTS, _SHAPES = "credit.tables.figures.plots", "credit.tables.figures.shapes"

declare(
    "figure",
    {
        "bars": f"{_PLOTS}:draw_bars",
        "lines": f"{_PLOTS}:draw_lines",
        "curves": f"{_PLOTS}:draw_curves",
        "steps": f"{_PLOTS}:draw_steps",
        "boxes": f"{_SHAPES}:draw_boxes",
        "layers": f"{_PLOTS}:draw_layers",
        "layer_curves": f"{_PLOTS}:draw_layer_curves",
        "layer_steps": f"{_PLOTS}:draw_layer_steps",
        "gates": f"{_PLOTS}:draw_gates",
        "pruning": f"{_SHAPES}:draw_pruning",
        "confusion": "credit.tables.figures.classes:draw_confusion",
        "embedding": "credit.tables.figures.classes:draw_embedding",
        "signals": f"{_SHAPES}:draw_signals",
        "dots": "credit.tables.figures.families:draw_dots",
        "trade": "credit.tables.figures.families:draw_trade",
    },
)
