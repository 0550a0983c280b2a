"""Write a report of finished runs: a Markdown page and a picture of their learning curves.

python scripts/report_runs.py runs/reports/NAME TITLE RUN_FOLDER [RUN_FOLDER ...]
"""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a run's result and its lines of metrics."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return result, [json.loads(line) for line in lines]


def draw(runs: list[tuple[dict[str, Any], list[dict[str, Any]]]], file: Path) -> None:
    """Draw test accuracy and the share of wrong labels learnt by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    accuracy, memory = figure.subplots(1, 2)
    for result, rows in runs:
        epochs, name = [row["epoch"] for row in rows], result["config"]["rule"]["name"]
        accuracy.plot(epochs, [100 * row["test_top1"] for row in rows], marker="o", markersize=3, label=name)
        if all("memorised" in row for row in rows):
            memory.plot(epochs, [100 * row["memorised"] for row in rows], marker="o", markersize=3, label=name)
    chance = 100 / runs[0][0]["data"]["classes"]
    accuracy.axhline(chance, color="grey", linestyle=":", label="chance")
    for axis, title in ((accuracy, "test accuracy, %"), (memory, "wrong training labels answered, %")):
        axis.set(xlabel="epoch", title=title, ylim=(0, None))
        axis.legend(frameon=False)
    figure.savefig(file, dpi=120)


def table(runs: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> str:
    """Return the Markdown table of the runs' last and best numbers."""
    head = (
        "| rule | epochs | test, last | test, best by validation | wrong labels answered | s an epoch | data digest |\n"
    )
    text = head + "|---|---|---|---|---|---|---|\n"
    for result, rows in runs:
        last, best = result["last"], result["best"]
        text += (
            f"| {result['config']['rule']['name']} | {len(rows)} | {last['test_top1']:.1%} | {best['test_top1']:.1%} (epoch "
            f"{best['epoch']}) | {last.get('memorised', float('nan')):.1%} | {result['seconds_per_epoch']:.0f} | "
            f"`{result['data_digest'][:16]}` |\n"
        )
    return text


def main(words: list[str]) -> None:
    """Write the page and the picture."""
    target, title, folders = Path(words[0]), words[1], [Path(word) for word in words[2:]]
    runs = [read(folder) for folder in folders]
    target.parent.mkdir(parents=True, exist_ok=True)
    draw(runs, target.with_suffix(".png"))
    origin = runs[0][0]["provenance"]
    facts = "\n".join(
        f"- {key}: {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}"
        for key, value in origin.items()
    )
    config = json.dumps({folder.name: run[0]["config"] for folder, run in zip(folders, runs, strict=True)}, indent=1)
    page = (
        f"# {title}\n\n{table(runs)}\n![learning curves]({target.with_suffix('.png').name})\n\n{facts}\n\n"
        f"<details><summary>configuration</summary>\n\n```json\n{config}\n```\n\n</details>\n"
    )
    target.with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
