"""The command `credit` with its subcommands; training is the command `credit-train`."""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module

from credit.cli.failures import reported
from credit.core.errors import UserError, nearest

COMMANDS = {
    "table": "run a published table, or what is left of it, and write its report; without a name: list the tables",
    "report": "write a table's report anew from the runs that are there",
    "eval": "evaluate a finished run, on its own data or on others",
    "predict": "name the class of images, or of rows of an array, by a finished run's network",
    "export": "write a finished run's network as safetensors, torch.export or ONNX",
    "list": "show every rule, network, data set, ... by name, with one line of description",
    "check": "run the battery of tests on rules, your own too, and print a pass/fail table",
    "bench": "measure one step of each rule against plain autograd, and the data path",
    "doctor": "say what this machine lacks to train, and what to do about it",
}

_MODULES = {"list": "listing", "eval": "trained.evaluation", "predict": "trained.predict", "export": "trained.export"}
"""Modules of commands that are not named like them."""


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit code (2 for a user's error).

    Args:
        argv: the arguments behind the command's name; None for those of the command line.
    """
    words = sys.argv[1:] if argv is None else argv
    command = words[0] if words and words[0] in COMMANDS else ""
    return reported(f"credit {command}".strip(), lambda: _main(words))


def _main(words: list[str]) -> int:
    parser = _parser()
    if not words or words[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    if words[0] == "--version":
        from credit.core.config.folders import credit_version

        print(f"credit {credit_version()}")
        return 0
    if words[0] not in COMMANDS:
        raise UserError(f"unknown command '{words[0]}': {nearest(words[0], COMMANDS)}. To train use credit-train")
    return _command(words[0])(words[1:])


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<8} {text}" for name, text in COMMANDS.items())
    return argparse.ArgumentParser(
        prog="credit",
        usage="credit COMMAND [...]",
        description=f"commands (credit COMMAND --help tells more):\n{commands}",
        epilog="To train: credit-train rule=lisp_margin data=cifar10 noise=0.4; see credit-train --help.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _command(name: str) -> Callable[[list[str]], int]:
    """Return the function of a subcommand, and import only its module."""
    module = import_module(f"credit.cli.{_MODULES.get(name, name)}")
    main: Callable[[list[str]], int] = module.main
    return main


if __name__ == "__main__":
    sys.exit(main())
