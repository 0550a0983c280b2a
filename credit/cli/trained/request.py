"""Arguments that the commands for a finished run share."""

import argparse
from typing import TYPE_CHECKING

from credit.core.errors import UserError, nearest
from credit.core.user_files import use_folders

if TYPE_CHECKING:
    from credit.training.state.loading import Trained

RUN_HELP = """\
  RUN                    a run's folder, or its name under runs/
  --weights best|last    of the best epoch by validation accuracy (the default), or of the last
  --device cpu           auto, cpu, cuda, or cuda:0
  --config-dir DIR       the folder of your own network, rule or data of that run; may be repeated"""


class Request(argparse.ArgumentParser):
    """An argument parser for the commands on finished runs, with the arguments of `RUN_HELP`; its errors are `UserError`.

    Args:
        command: name of the subcommand.
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"credit {command}", add_help=False, allow_abbrev=False)
        self.add_argument("run", metavar="RUN")
        self.add_argument("--weights", default="best")
        self.add_argument("--device", default="cpu")
        self.add_argument("--config-dir", "-cd", action="append", default=[])

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse declares that it never returns
        if "required: RUN" in message:
            message = "no run is given: its folder, or its name under runs/"
        raise UserError(f"{message}; see {self.prog} --help")

    def read(self, argv: list[str]) -> argparse.Namespace:
        """Return the arguments, flags in any place.

        Raises:
            UserError: an unknown flag, or an argument that is missing.
        """
        asked, unknown = self.parse_known_intermixed_args(argv)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise UserError(f"unknown flag '{unknown[0]}': {nearest(unknown[0], [*flags, '--help'])}")
        return asked


def trained(asked: argparse.Namespace) -> "Trained":
    """Return the network of the run that was asked for."""
    use_folders(asked.config_dir)
    from credit.training.state.loading import load

    return load(asked.run, asked.weights, device=asked.device)
