"""Tables for tests: a whole small one, and parts of it changed by text."""

from pathlib import Path

from credit.core.user_files import use_folders

SMALL = """\
# A small table
title: Digits under noise
source: nowhere
measures: [accuracy, gap]
accuracy: last
split: the digits of scikit-learn
common: [data=digits, arch=mlp, "arch.widths=[8]"]
rows:
  clean: {label: 0 %, x: 0, set: [noise=none]}
  noisy: {label: 40 %, x: 40, set: [noise=0.4]}
columns:
  bp: {label: BP, set: [rule=bp, optimizer.lr=0.05]}
  margin: {label: LISP, set: [rule=lisp_margin]}
  fa: {set: [rule=fa, optimizer.lr=0.02], rows: [clean]}
cells:
  noisy: {margin: [optimizer.weight_decay=0.001]}
published:
  clean: {bp: 94.0 ± 3.3, margin: {mean: 95, std: 1, n: 5}}
  noisy: {bp: 81.9, margin: 84.8 +- 0.2}
claims:
  - name: better
    says: It is better.
    compare: margin > best(bp, 50)
  - name: steeper
    says: The gap grows.
    grows: margin - bp
figures:
  - {kind: bars, title: All}
  - {kind: lines, title: By noise, columns: [bp, margin]}
budgets:
  smoke: {says: It runs., seeds: 1, set: [trainer.epochs=1, data.limit_train=200], only: {columns: [bp, fa]}}
  quick: {says: Small., seeds: 2, minutes: 1, set: [trainer.epochs=3], columns: {margin: [optimizer.lr=0.001]}}
  paper: {says: Whole., seeds: 3, set: [trainer.epochs=200]}
"""


def write(folder: Path, text: str, name: str = "lab/small") -> str:
    """Write a table into a user's folder of configuration files, use that folder, and return the table's name."""
    file = folder / "paper" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    use_folders([folder])
    return name


def line_of(text: str, piece: str) -> int:
    """Return the line, counted from 1, on which a piece of text first stands."""
    return text[: text.index(piece)].count("\n") + 1
