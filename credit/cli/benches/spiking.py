"""The spiking rows of ``credit bench``: a step of each rule against snnTorch's surrogate-gradient backpropagation through time."""

import argparse
from dataclasses import asdict
from typing import Any

NETWORK, SHAPE, STEPS, CLASSES = "spiking_lenet", (1, 28, 28), 25, 10
BATCHES = (32, 128)
TARGETS = {"bp": 0.8, "lfp_epsilon": 0.8, "lfp_zpm": 1.3}
"""Target time of a step divided by snnTorch's, with at most its memory, for each rule that is measured."""


def spiking_rows(args: argparse.Namespace, rules: list[str]) -> list[dict[str, Any]]:
    """Run the benchmark of spiking networks, print a table and return its rows; without snnTorch there are none.

    Args:
        args: the command's arguments, with ``device`` and ``seconds``.
        rules: names of rules; those without a target are left out.
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from credit.benchmarks.spiking import compare_spiking, installed
    from credit.models import build

    chosen = [rule for rule in TARGETS if rule in rules]
    if chosen and not installed():
        print(f"{NETWORK} left out: snntorch, which it is timed beside, is not installed (pip install snntorch)")
        return []
    rows = []
    for batch in BATCHES if chosen else ():
        table = Table(
            title=f"{NETWORK}, {STEPS} steps, batch {batch}, {args.device}: one step over that of snnTorch (surrogate gradients)",
            title_justify="left",
        )
        for column in ("rule", "time", "quartiles", "target", "peak memory", "pairs"):
            table.add_column(column, justify="left" if column == "rule" else "right")
        for rule in chosen:
            source = torch.Generator().manual_seed(0)
            x = torch.rand(batch, *SHAPE, generator=source).to(args.device)
            y = torch.randint(0, CLASSES, (batch,), generator=source).to(args.device)
            model = build({"kind": NETWORK, "steps": STEPS}, SHAPE, CLASSES, seed=0).to(args.device).train()
            assert isinstance(model, torch.nn.Sequential)
            ratio = compare_spiking(rule, model, x, y, seconds=args.seconds)
            told = {"arch": NETWORK, "steps": STEPS, "batch": batch, "rule": rule, "target": TARGETS[rule]}
            rows.append(told | asdict(ratio))
            quartiles, memory = f"{ratio.low:.2f}-{ratio.high:.2f}", f"{ratio.memory:.2f}"
            table.add_row(rule, f"{ratio.time:.2f}", quartiles, f"{TARGETS[rule]:.2f}", memory, str(ratio.pairs))
        Console().print(table)
    return rows
