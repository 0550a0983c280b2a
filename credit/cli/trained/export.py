"""``credit export``: write the network of a finished run for use elsewhere."""

from pathlib import Path

from credit.cli.trained.request import RUN_HELP, Request, trained

HELP = f"""\
usage: credit export RUN --to safetensors|torch_export|onnx [--out FILE] [--weights best|last] [--device cpu] [--config-dir DIR]

Write a finished run's network, which takes preprocessed inputs (B, ...), and print the file's path. Its metadata have the
preprocessing and the names of classes. The file is read back and its outputs are compared before it gets its name.

{RUN_HELP}
  --to FORMAT            safetensors: the weights; torch_export (.pt2) and onnx: the network
  --out FILE             where to (default: model with the format's suffix in the run's folder)"""


def main(argv: list[str]) -> int:
    """Write the file, print its path, and return 0.

    Args:
        argv: the arguments behind ``credit export``.

    Raises:
        UserError: an argument is invalid, the run cannot be read, or its network cannot be exported.
    """
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    parser = Request("export")
    parser.add_argument("--to", required=True)
    parser.add_argument("--out", type=Path)
    asked = parser.read(argv)
    from credit.training.state.exporting import check_format, export

    check_format(asked.to)
    print(export(trained(asked), asked.to, asked.out))
    return 0
