"""``credit bench``: time one step of each rule against plain autograd, and the data path against torchvision's."""

import argparse
import json
import os
import platform
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from credit.benchmarks.targets import BATCHES, SHAPES, SPECS, TARGETS, Target, parts, usual, written
from credit.cli.benches import spiking
from credit.cli.benches.replicas import REPLICAS, replica_rows

ARCHS = (*SHAPES, spiking.NETWORK)
BATCH, LARGE_BATCH, CLASSES = 128, 512, 10
# Networks without batch statistics, where lisp_margin leaves satisfied samples out of the backward pass.
SPARSE = ("mlp", "lenet5")
SHARES = (50, 90, 100)
SATISFIED_TARGETS = {50: 0.70, 90: 0.40}


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    p = argparse.ArgumentParser(
        prog="credit bench",
        description="Time and peak memory of one step of each rule over those of a plain autograd step on the same model "
        "and batch, measured in alternating pairs in one run: ratios, medians. 1.00 is autograd.",
    )
    p.add_argument(
        "--rules",
        help="comma-separated names, each with options where there are any (dp_adjoint+schedule=fw+passes=5), or 'all' "
        f"(default: {', '.join(TARGETS)}, each on the networks it is meant for)",
    )
    p.add_argument(
        "--archs",
        default=",".join(ARCHS),
        help=f"comma-separated, of: %(default)s; {spiking.NETWORK} over snnTorch's step, where snntorch is installed",
    )
    p.add_argument("--seconds", type=float, default=6.0, help="about how long to measure a row (default: %(default)s)")
    p.add_argument(
        "--satisfied",
        default=",".join(map(str, SHARES)),
        help="shares of the batch, in per cent, that meet lisp_margin's margin, each measured on "
        f"{' and '.join(SPARSE)}; at 100 the forward pass and the output signal are left; '' leaves them out "
        "(default: %(default)s)",
    )
    p.add_argument(
        "--modes",
        default="eager",
        help="comma-separated, of eager, compiled (torch.compile on both sides, slow to start) and graphs (CUDA graphs of the "
        "compiled steps; 'skipped' where torch could not make them) (default: %(default)s)",
    )
    p.add_argument(
        "--replicas",
        type=int,
        default=REPLICAS,
        help="how many seeds to train at once, in one pass and in processes, against as many autograd runs; 0 leaves it out "
        "(default: %(default)s)",
    )
    p.add_argument("--no-data", action="store_true", help="leave out the data path")
    p.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:0 (default: %(default)s)")
    p.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    p.add_argument("--json", type=Path, help="where the numbers go (default: bench.json among the runs)")
    p.add_argument("--config-dir", action="append", default=[], help="a folder with rules of your own")
    return p


def main(argv: list[str]) -> int:
    """Run the benchmarks, print tables and write the numbers as JSON; return the exit code.

    Args:
        argv: the arguments behind ``credit bench``.

    Raises:
        UserError: an argument is invalid.
    """
    args = parser().parse_args(argv)
    import torch

    from credit.benchmarks.speed import MODES
    from credit.core.errors import UserError, nearest
    from credit.core.user_files import use_folders
    from credit.rules import api
    from credit.training.prepare import resolve_device

    use_folders(args.config_dir)
    rules = api.names() if args.rules == "all" else written(args.rules) if args.rules else []
    archs = args.archs.split(",")
    named = [parts(rule)[0] for rule in rules]
    args.modes = args.modes.split(",")
    for given, valid, what in (
        (named, api.names(), "--rules"),
        (archs, ARCHS, "--archs"),
        (args.modes, MODES, "--modes"),
    ):
        for name in given:
            if name not in valid:
                raise UserError(f"{what} {name}: {nearest(name, valid)}")
    args.device = str(resolve_device(args.device, "--device "))
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.replicas < 0 or args.replicas == 1:
        raise UserError(f"--replicas {args.replicas}: give 2 or more seeds to train at once, or 0 to leave them out")
    shares = _shares(args.satisfied)
    rows = [row for arch in archs if arch in SHAPES for row in _rows(rules or usual(arch), arch, args)]
    report: dict[str, Any] = {"machine": _machine(args.device), "batch": BATCH, "rows": rows}
    report["satisfied"] = _satisfied_rows([arch for arch in archs if arch in SPARSE and shares], shares, args)
    if spiking.NETWORK in archs:
        report["spiking"] = spiking.spiking_rows(args, rules or list(spiking.TARGETS))
    if args.replicas:
        report["replicas"] = replica_rows(args)
    if not args.no_data:
        report["data"] = _data_path()
    out = args.json or Path(os.environ.get("CREDIT_RUNS") or "runs") / "bench.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")
    return 0


def _shares(written: str) -> list[float]:
    from credit.core.errors import UserError

    try:
        shares = [float(word) for word in written.split(",") if word]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 100 for share in shares):
        raise UserError(f"--satisfied {written}: shares are per cent from 0 to 100, for example --satisfied 0,50,90")
    return shares


def _satisfied_rows(archs: list[str], shares: list[float], args: argparse.Namespace) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.table import Table

    from credit.benchmarks.speed import compare_satisfied

    rows = []
    for arch, batch in product(archs, (BATCH, LARGE_BATCH)):
        table = Table(
            title=f"{arch}, batch {batch}, {args.device}: the step of lisp_margin (unclipped) over autograd's, by the share "
            "of samples that meet the margin",
            title_justify="left",
        )
        for column in ("satisfied", "time", "quartiles", "target", "peak memory", "pairs"):
            table.add_column(column, justify="right")
        for share in shares:
            model, x, _ = _problem(arch, args.device, batch)
            ratio = compare_satisfied(model, x, share / 100, seconds=args.seconds)
            target = SATISFIED_TARGETS.get(int(share)) if share == int(share) else None
            told = {"arch": arch, "batch": batch, "rule": "lisp_margin", "satisfied": share, "target": target}
            rows.append(told | asdict(ratio))
            wanted = "" if target is None else f"{target:.2f}"
            quartiles, memory = f"{ratio.low:.2f}-{ratio.high:.2f}", f"{ratio.memory:.2f}"
            table.add_row(f"{share:g} %", f"{ratio.time:.2f}", quartiles, wanted, memory, str(ratio.pairs))
        Console().print(table)
    return rows


def _problem(arch: str, device: str, batch: int) -> tuple[Any, Any, Any]:
    """Return a seeded problem: the model, inputs x (B, ...) and labels y (B,)."""
    import torch

    from credit.models import build

    source = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *SHAPES[arch], generator=source).to(device)
    y = torch.randint(0, CLASSES, (batch,), generator=source).to(device)
    spec = SPECS.get(arch, {"kind": arch})
    return build(spec, SHAPES[arch], CLASSES, seed=0).to(device).train(), x, y


def _rows(rules: list[str], arch: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    import yaml
    from rich.console import Console
    from rich.table import Table

    from credit.benchmarks.speed import compare

    rows, batch = [], BATCHES.get(arch, BATCH)
    table = Table(title=f"{arch}, batch {batch}, {args.device}: one step over autograd's", title_justify="left")
    for column in ("rule", "mode", "time", "quartiles", "target", "peak memory", "target", "pairs"):
        table.add_column(column, justify="left" if column in ("rule", "mode") else "right")
    for rule in rules:
        for mode in args.modes:
            model, x, y = _problem(arch, args.device, batch)
            name, options = parts(rule)
            values = {option: yaml.safe_load(value) for option, value in options.items()}
            ratio = compare(name, model, x, y, mode=mode, seconds=args.seconds, **values)
            target = TARGETS.get(rule, Target())
            time = target.time if mode == "eager" or target.compiled is None else target.compiled
            told = {"arch": arch, "batch": batch, "rule": rule, "mode": mode}
            rows.append(told | {"target": time, "memory_target": target.memory} | asdict(ratio))
            quartiles = f"{ratio.low:.2f}-{ratio.high:.2f}"
            memory, most, least = (
                "" if value is None else f"{value:.2f}" for value in (ratio.memory, time, target.memory)
            )
            shown = f"{mode} (skipped)" if ratio.skipped else mode
            table.add_row(rule, shown, f"{ratio.time:.2f}", quartiles, most, memory, least, str(ratio.pairs))
    Console().print(table)
    return rows


def _data_path() -> dict[str, Any] | None:
    from credit.benchmarks.data import bench_data_path
    from credit.core.errors import UserError

    try:
        measured: dict[str, Any] = bench_data_path(None)
    except UserError as missing:
        print(f"data path left out: {missing}")
        return None
    print(
        f"data path: a CIFAR-10 epoch of augmented batches in {measured['ours_seconds']:.2f} s, torchvision's in "
        f"{measured['torchvision_seconds']:.2f} s: {measured['ratio']:.1f} times as fast"
    )
    return measured


def _machine(device: str) -> dict[str, Any]:
    import torch

    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
