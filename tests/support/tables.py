"""A table on Digits that runs in a second a job, for the tests that run one."""

import csv
import re
from pathlib import Path
from typing import Any

TABLE = """\
# Digits with wrong labels
title: Digits under label noise
source: nobody
measures: [accuracy, gap]
accuracy: last
split: the usual
test: welch
settings: []
common: [data=digits, arch=mlp, "arch.widths=[8]", data.batch_size=20, data.limit_train=200, data.limit_test=50]
rows:
  clean: {x: 0, set: [noise=none]}
  noisy: {x: 40, set: [noise=0.4]}
columns:
  bp: {label: BP, set: [rule=bp]}
  fa: {label: FA, set: [rule=fa]}
published:
  noisy: {bp: 81.9, fa: 84.8}
claims:
  - {name: fa wins, says: Feedback alignment is better., compare: fa > bp}
figures:
  - {kind: curves, title: By epoch}
budgets:
  smoke: {says: It runs., seeds: 1, set: [trainer.steps=4]}
  quick: {says: A little., seeds: 2, minutes: 1, set: [trainer.epochs=3]}
  paper: {says: All., seeds: 2, set: [trainer.epochs=40]}
"""


def write_table(folder: Path, text: str = TABLE) -> str:
    """Write the table ``lab/digits`` into a configuration folder and return the folder as a word."""
    (folder / "paper" / "lab").mkdir(parents=True)
    (folder / "paper" / "lab" / "digits.yaml").write_text(text)
    return str(folder)


def rows(file: Path) -> list[dict[str, Any]]:
    """Return a CSV file's rows without its times."""
    with file.open() as lines:
        return [
            {key: value for key, value in row.items() if not key.endswith("_seconds")} for row in csv.DictReader(lines)
        ]


def timeless(page: Path) -> str:
    """Return a report's page without its section of times."""
    text = page.read_text()
    assert "## Times" in text
    return re.sub(r"## Times\n.*?(?=\n## )", "", text, flags=re.DOTALL)
