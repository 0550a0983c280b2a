"""Write a table's report from its manifest and finished runs: report.md, report.html, report.csv, runs.csv and pictures."""

import re
from collections.abc import Sequence
from pathlib import Path

from credit.core.errors import UserError
from credit.core.reading import reason
from credit.core.writing import write_whole
from credit.tables.claims.claims import judge
from credit.tables.claims.verdicts import NOT_JUDGED, Judgement
from credit.tables.expand.manifest import Manifest
from credit.tables.measures.collect import Collection, collect
from credit.tables.report.blocks import Picture
from credit.tables.report.content import content
from credit.tables.report.csv_files import REPORT, RUNS, report_csv, runs_csv
from credit.tables.report.html import html
from credit.tables.report.markdown import SIGNS, markdown
from credit.tables.spec.schema import Figure, Spec

MARKDOWN, HTML = "report.md", "report.html"
_NOTES = {
    "bars": "Filled: mean ± standard deviation over repeats.",
    "lines": "Line: mean over repeats, band: ± standard deviation.",
    "curves": "Line: mean over repeats, band: ± standard deviation.",
    "steps": "Line: mean over repeats, band: ± standard deviation.",
    "boxes": "Of all repeats: whiskers least and largest, box the quartiles, line the median.",
    "layers": "Layers from the input on; mean over repeats.",
    "layer_curves": "A line a layer: mean over repeats.",
    "layer_steps": "A line a layer: mean over repeats, at each of the first steps.",
    "gates": "What a signal is multiplied by at a pre-activation z; of a random factor, one draw for each z.",
    "pruning": "Smallest weights set to zero at the end of training. Line: mean over repeats, band: ± standard deviation.",
    "dots": "Mean ± standard deviation over repeats, columns by family; hollow: a row that is held against the filled one.",
    "trade": "Mean over repeats against the median time of a step, both of one condition; named: where no other is better that "
    "takes at most 5 % longer.",
    "confusion": "Of each class's test images, the share in % that got each answer; all repeats together, at the last epoch where "
    "the table's accuracy is the last's, else at the best on validation.",
    "embedding": "t-SNE of what enters the last weighted layer, of the first repeat; in the corner, how many examples have as "
    "nearest other one, by that representation itself, one of their own class.",
    "signals": "The first repeat's, divided by its largest absolute value over the inputs (max).",
}


def write_report(spec: Spec, manifest: Manifest, folder: Path, held: Collection | None = None) -> Path:
    """Write all files of a report, and return the path of the Markdown page.

    The same runs give the same bytes, except for times (the section "Times", and the columns ``*_seconds`` of the CSV files).

    Args:
        spec: the table.
        manifest: the table's expansion; jobs that are not over count as missing.
        folder: folder of the files, created if it does not exist.
        held: the collected runs; None to collect them.

    Raises:
        UserError: a result.json is damaged, or the folder cannot be written.
    """
    held = held or collect(spec, manifest)
    judged = judgements(held)
    dishonest = spec.accuracy == "best_test" and bool(judged)
    honest = judgements(held, "best_val") if dishonest else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = _pictures(held, folder)
        _remove_older(folder, pictures)
        blocks = content(held, judged, honest, pictures)
        texts = {MARKDOWN: markdown(blocks), HTML: html(blocks, folder), REPORT: report_csv(held), RUNS: runs_csv(held)}
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
    except OSError as error:
        raise UserError(
            f"the report cannot be written ({reason(error)}); give `credit report {spec.name}` "
            f"another folder: --to FOLDER"
        ) from error
    return folder / MARKDOWN


def judgements(held: Collection, accuracy: str | None = None) -> list[Judgement]:
    """Return the judgements of all claims, in the spec's order; `NOT_JUDGED` for claims that the budget does not test.

    Args:
        held: the table's runs.
        accuracy: as in `credit.tables.claims.claims.judge`.
    """
    budget = held.spec.budgets[held.manifest.budget]
    left_alone = "not judged in this budget, which cannot tell"
    return [
        judge(claim, held, accuracy) if budget.judges(claim) else Judgement(claim, NOT_JUDGED, left_alone)
        for claim in held.spec.claims
    ]


def verdict_lines(spec: Spec, manifest: Manifest, held: Collection | None = None) -> list[str]:
    """Return a line for each claim: ``✓ held            robust at 40 %: +2.8 points (...)``.

    Args:
        spec, manifest, held: as in `write_report`.
    """
    judged = judgements(held or collect(spec, manifest))
    return [f"{SIGNS[j.verdict]} {j.verdict:<15}  {j.claim.name}: {j.words}" for j in judged]


def _pictures(held: Collection, folder: Path) -> Sequence[Picture]:
    if not held.spec.figures:
        return []
    from credit.tables.figures.plots import draw  # matplotlib takes a second to import

    drawn = []
    for number, figure in enumerate(held.spec.figures, 1):
        file = f"figure{number}.png"
        if draw(figure, held, folder / file):
            drawn.append(Picture(file, figure.title, _note(figure, held.spec)))
    return drawn


def _remove_older(folder: Path, kept: Sequence[Picture]) -> None:
    """Delete pictures of an earlier report that the present one does not have."""
    for file in folder.iterdir():
        if re.fullmatch(r"figure[1-9][0-9]*\.png", file.name) and file.name not in {picture.file for picture in kept}:
            file.unlink()


def _note(figure: Figure, spec: Spec) -> str:
    published = figure.kind in ("bars", "lines") and spec.means_in(figure.measure or spec.measures[0])
    return _NOTES.get(figure.kind, "") + (" Hollow diamond: published." if published else "")
