"""The replica rows of ``credit bench``: twenty seeds in one pass or in processes, against twenty sequential autograd runs."""

import argparse
import sys
from dataclasses import asdict
from typing import Any

REPLICAS = 20
"""Default number of seeds."""

NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "suc, 100 features": ({"kind": "suc"}, (100,), 2),
    "mlp 64-32-10": ({"kind": "mlp", "widths": [32], "activation": "sigmoid"}, (1, 8, 8), 10),
    "mlp 64-64-10": ({"kind": "mlp", "widths": [64], "activation": "sigmoid"}, (1, 8, 8), 10),
    "lenet5 (untied), sigmoid": ({"kind": "lenet5", "variant": "untied", "activation": "sigmoid"}, (1, 28, 28), 10),
}
"""Network, shape of an example and number of classes, by name of the row."""

TARGETS = {"cpu": {"suc": 5.0, "mlp": 5.0, "lenet5": 1.3}, "cuda": {"lenet5": 8.0}}
"""Target speedup of the faster alternative, by device and kind of network."""

BATCHES = {"cpu": 32, "cuda": 256}


def replica_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the benchmark of replicas, print a table and return its rows.

    Args:
        args: the command's arguments, with ``replicas`` (number of seeds), ``device``, ``seconds`` and ``modes``.
    """
    from rich.console import Console
    from rich.table import Table

    from credit.benchmarks.throughput import EPOCH, Problem, compare_replicas
    from credit.sweeps.jobs import cores

    kind = "cuda" if args.device.startswith("cuda") else "cpu"
    batch, processes = BATCHES[kind], cores() if kind == "cpu" else 1
    table = Table(
        title=f"{args.replicas} replicas, batch {batch}, {args.device}: times as fast as autograd, one after another; how far "
        f"weights of one pass are from those of the rules one by one, after {EPOCH} steps in float32",
        title_justify="left",
    )
    columns = ("network", "rule", "mode", "one pass", f"{processes} processes", "the faster", "target", "difference")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:3] else "right")
    rows = []
    for name, (arch, shape, classes) in NETWORKS.items():
        for rule in ("bp", "untied_constant"):
            for mode in args.modes:
                problem = Problem(arch, shape, classes, rule, batch, args.replicas, args.device, mode)
                found = compare_replicas(problem, seconds=args.seconds, processes=processes)
                target = TARGETS[kind].get(arch["kind"])
                rows.append(
                    {"network": name, "rule": rule, "mode": mode, "batch": batch, "replicas": args.replicas}
                    | {"target": target, "chosen": found.chosen}
                    | asdict(found)
                )
                told = (found.mapped, found.processes, found.chosen, target)
                apart = "" if found.difference is None else f"{found.difference:.0e}"
                shown = f"{mode} (skipped)" if found.skipped else mode
                table.add_row(name, rule, shown, *("" if one is None else f"{one:.2f}" for one in told), apart)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return rows
