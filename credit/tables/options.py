"""The runners of a table's cells and the kinds of its figures. Imports neither torch nor matplotlib."""

from credit.core.registry import declare

declare(
    "runner",
    {
        "train": "credit.tables.runners.training",
        "trees": "credit.tables.runners.trees",
        "gates": "credit.tables.runners.gates",
        "shattering": "credit.tables.runners.shattering",
        "timing": "credit.tables.runners.timing",
    },
)

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
