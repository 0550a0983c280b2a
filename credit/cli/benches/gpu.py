"""``make gpu``: all that is measured on a GPU, in one report: steps, replicas, and epochs of CIFAR-10 by ``credit-train``."""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from credit.cli.failures import reported
from credit.core.writing import write_json, write_whole
from credit.runs.metrics import read_metrics
from credit.runs.places import RESULT, runs_root
from credit.runs.provenance import COMMAND, environment, provenance
from credit.tables.report.blocks import Block, Code, Heading, Table, Text
from credit.tables.report.markdown import markdown

BENCH = {
    "--modes": "eager,compiled,graphs",
    "--archs": "mlp,lenet5,plain_conv_bn",
    "--rules": "bp,lisp_margin,lisp_ce,fa,dfa,untied_constant,untied_rectangle,jam_full",
    "--replicas": "20",
    "--seconds": "2",
}
"""Arguments of ``credit bench``, each of which can be given."""

TRAINING = {
    "rule": "bp,lisp_margin,lisp_ce",
    "trainer.precision": "bf16,float32",
    "data": "cifar10",
    "arch": "plain_conv_bn",
    "trainer.epochs": "4",
    "trainer.progress": "false",
}
"""Settings of ``credit-train -m``, each of which can be given, and others."""


def main(argv: list[str] | None = None) -> int:
    """Measure, write the report and return the exit code: 2 where there is no GPU.

    Args:
        argv: arguments of `BENCH`, ``--device``, and settings of ``credit-train``; None for those of the command line.
    """
    words = sys.argv[1:] if argv is None else argv
    typed = shlex.join(["make", "gpu", *([f"ARGS={shlex.join(words)}"] if words else [])])
    with environment(**{COMMAND: typed}):
        return reported("make gpu", lambda: _main(words))


def _main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make gpu", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="of credit-train, such as trainer.epochs=10")
    parser.add_argument(
        "--device", default="cuda", help="cuda, or cuda:1; cpu tries the report out (default: %(default)s)"
    )
    for flag, value in BENCH.items():
        parser.add_argument(flag, default=value, help="of credit bench (default: %(default)s)")
    args = parser.parse_args(words)
    import torch

    from credit.cli import bench
    from credit.core.errors import UserError

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("this machine has no GPU that torch can use, and nothing is measured without one")
    folder = runs_root() / "reports" / "gpu"
    with tempfile.TemporaryDirectory() as place:
        code, training = _trained(args, Path(place))
        if code:
            return code
        numbers = Path(place) / "bench.json"
        flags = [word for flag in BENCH for word in (flag, getattr(args, flag[2:]))]
        bench.main([*flags, "--device", args.device, "--satisfied", "", "--no-data", "--json", str(numbers)])
        measured = json.loads(numbers.read_text(encoding="utf-8"))
    found = {"provenance": provenance(args.device), "training": training}
    found |= {"steps": measured["rows"], "replicas": measured.get("replicas", [])}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", found)
    write_whole(folder / "report.md", markdown(_blocks(found)).encode())
    print(f"written to {folder / 'report.md'} and report.json")
    return 0


def _trained(args: argparse.Namespace, place: Path) -> tuple[int, list[dict[str, Any]]]:
    """Train the runs in a folder of their own; return the exit code of ``credit-train`` and a row for each run."""
    from credit.cli import train

    given = dict(setting.partition("=")[::2] for setting in args.settings)
    settings = {**TRAINING, "trainer.device": args.device, **given}
    with environment(CREDIT_RUNS=str(place)):
        code = train.main(["-m", *(f"{key}={value}" for key, value in settings.items())])
    rows = [_row(path.parent) for path in place.glob(f"*/{RESULT}")]
    return code, sorted(rows, key=lambda row: (row["rule"], row["precision"]))


def _row(run: Path) -> dict[str, Any]:
    """Return what the report has of a run; the first epoch, in which torch chooses kernels, is not in the median."""
    result = json.loads((run / RESULT).read_text(encoding="utf-8"))
    config, ends = result["config"], [0.0, *(row["seconds"] for row in read_metrics(run))]
    first, *others = (after - before for before, after in zip(ends, ends[1:], strict=False))
    return {
        "rule": config["rule"]["name"],
        "precision": config["trainer"]["precision"],
        "seconds_per_epoch": statistics.median(others or [first]),
        "first_epoch_seconds": first,
        "epochs": len(others) + 1,
        "steps_per_epoch": result["steps_per_epoch"],
        "batch": config["data"]["batch_size"],
        "test_top1": result["last"]["test_top1"],
        "data": result["data"]["kind"],
        "data_digest": result["data_digest"],
        "command": result["provenance"]["job_command"],
        "device": result["provenance"]["machine"].get("gpu", "cpu"),
    }


def _blocks(found: Mapping[str, Any]) -> list[Block]:
    facts = found["provenance"]
    machine, versions, runs = facts["machine"], facts["versions"], found["training"]
    return [
        Heading(f"Measured on {machine.get('gpu', machine['processor'])}", 1),
        _table(
            [
                {
                    "command": f"`{facts['command']}`",
                    "commit": facts["commit"],
                    "device": machine.get("gpu", machine["device"]),
                }
                | {"torch": versions["torch"], "data digest": ", ".join(sorted({row["data_digest"] for row in runs}))}
            ],
            dict.fromkeys(("command", "commit", "device", "torch", "data digest"), ""),
        ),
        Heading("Seconds an epoch"),
        Text(
            "Steps alone, without evaluations: the median of all epochs but the first. Commands that train one run each are below."
        ),
        _table(
            runs,
            {
                "rule": "",
                "precision": "",
                "data": "",
                "batch": "",
                "steps_per_epoch": "",
                "seconds_per_epoch": ".3g",
                "first_epoch_seconds": ".3g",
                "epochs": "",
                "test_top1": ".1%",
            },
        ),  # fmt: skip
        Code("\n".join(row["command"] for row in runs)),
        Heading("One step over autograd's"),
        Text(
            "Median ratio of times with its quartiles, and ratio of peak memories. `skipped` is the number of programs that "
            "torch did not replay as CUDA graphs in the mode `graphs`: where it is not 0, that row is not one of CUDA graphs."
        ),
        _table(
            found["steps"],
            {
                "arch": "",
                "rule": "",
                "mode": "",
                "batch": "",
                "time": ".2f",
                "low": ".2f",
                "high": ".2f",
                "memory": ".2f",
                "step_ms": ".3f",
                "autograd_ms": ".3f",
                "skipped": "",
            },
        ),  # fmt: skip
        Heading("Replicas in one pass"),
        Text(
            "How many times as fast as autograd, one replica after another; `difference` is that of weights after 45 steps."
        ),
        _table(
            found["replicas"],
            {
                "network": "",
                "rule": "",
                "mode": "",
                "batch": "",
                "replicas": "",
                "mapped": ".2f",
                "autograd_ms": ".2f",
                "difference": ".0e",
                "skipped": "",
            },
        ),  # fmt: skip
    ]


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """Return a table of rows with the given columns, formatted by their format."""
    cells = tuple(
        tuple("" if row[name] is None else format(row[name], form) for name, form in columns.items()) for row in rows
    )
    align = "".join("r" if form else "l" for form in columns.values())
    return Table(tuple(name.replace("_", " ") for name in columns), cells, align)


if __name__ == "__main__":
    sys.exit(main())
