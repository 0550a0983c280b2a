"""The content of a table's report, as blocks: runs, verdicts, published and measured numbers, pictures, settings, provenance."""

from collections.abc import Callable, Sequence

from credit.tables.claims.verdicts import JUDGED, LEGEND, NOT_JUDGED, Judgement
from credit.tables.measures.collect import Cell, Collection
from credit.tables.measures.marks import LEGEND as LEGEND_OF_MARKS
from credit.tables.measures.measures import measure
from credit.tables.measures.quantities import Measure
from credit.tables.measures.twins import identical_lines
from credit.tables.report.blocks import Block, Box, Fold, Heading, Picture, Table, Text, Verdict, Verdicts
from credit.tables.report.origins import changed_words, provenance, runs_words, times
from credit.tables.report.summary import measured_in, summary, tuned
from credit.tables.report.words import NOTHING, capital, measured, number, plural, printed, signed, unit_of_difference

_MOST_COLUMNS = 7  # largest number of columns of a grid
_MOST_CELLS = 30  # largest number of cells of a list that is not folded
_MOST_CUTS = 6  # largest number of changed settings in a table that is not folded

_LABELS = {
    "smoke": "smoke budget: shows that it runs; its numbers say nothing about the paper.",
    "quick": "quick budget: tests the claims in small; not the published setting.",
    "paper": "paper budget: the published setting, as far as the paper gives it.",
}
_OWN_LABELS = {
    "smoke": "smoke budget: shows that it runs; its numbers say nothing.",
    "quick": "quick budget: small data and short training; what holds here need not hold at length.",
    "paper": "paper budget: the whole comparison.",
}
_CLAIMS = {"smoke": ", judged only to show that it runs", "quick": ", tested in small", "paper": ""}
_TESTS = {"welch": "Welch's t test", "paired": "a paired t test over shared repeats"}
_ACCURACIES = {
    "last": "the last epoch",
    "best_val": "the epoch that was best on validation",
    "best_test": "the epoch that was best on test, which chooses on the test set",
}


def content(
    held: Collection, judged: Sequence[Judgement], honest: Sequence[Judgement], pictures: Sequence[Picture]
) -> list[Block]:
    """Return the blocks of the whole report.

    Args:
        held: the table's runs.
        judged: the judgements of the claims, in the spec's order.
        honest: the judgements without a choice of the epoch on test; empty if the paper makes no such choice.
        pictures: the pictures that were drawn.
    """
    spec = held.spec
    main, *others = spec.measures
    timing = measure(main).is_time
    source = f"{spec.source}. " if spec.source else "A comparison of this project's own; nothing of it is published. "
    blocks: list[Block] = [Heading(spec.title, 1), Text(f"{source}Table `{spec.name}`."), *_box(held)]
    drawn: list[Block] = [Heading("Pictures"), *pictures] if pictures else []
    if spec.lines == "columns":
        blocks += [*summary(held), *identical(held), *drawn, *_claims(held, judged, honest), *_every_measure(held)]
    else:
        blocks += _claims(held, judged, honest)
        blocks += [Heading(_heading(measure(main)))] + _main_table(held, main)
        for name in others:
            if held.has(name) and (timing or not measure(name).is_time):
                blocks += [Heading(_heading(measure(name))), *_other_table(held, name)]
        blocks += drawn
    blocks += tuned(held) + _settings(held)
    own = [name for name in others if measure(name).is_time and held.has(name) and not timing]
    own = [] if spec.lines == "columns" else own
    grids = [block for name in own for block in (Heading(_heading(measure(name)), 3), *_other_table(held, name))]
    return blocks + times(held, grids) + provenance(held)


def _box(held: Collection) -> list[Block]:
    """Return the blocks about the budget, the settings that it changes, and the status of the runs."""
    manifest, cuts = held.manifest, held.manifest.cuts
    says = held.spec.budgets[manifest.budget].says
    labels = _LABELS if held.spec.source else _OWN_LABELS
    lines = [labels[manifest.budget], f"{says} {plural(manifest.seeds, 'seed')} a cell; {runs_words(held)}."]
    if manifest.words:
        lines.append(
            "Set on the command line for every cell: " + ", ".join(f"`{word}`" for word in manifest.words) + "."
        )
    if held.strays:
        lines.append(f"{plural(held.strays, 'run')} of cells that the table's file no longer has: left out.")
    changed = changed_words(held)
    blocks: list[Block] = [Box((*lines, *changed), loud=manifest.budget != "paper" or bool(cuts or changed))]
    if cuts:
        rows = tuple((f"`{cut.key}`", _value(cut.paper), _value(cut.here), cut.where) for cut in cuts)
        table = Table(("cut or changed", "paper", "here", "where"), rows, "llll")
        many = f"{len(cuts)} settings differ from {'the published run' if held.spec.source else 'the paper budget'}"
        blocks.append(table if len(cuts) <= _MOST_CUTS else Fold(many, (table,)))
    return blocks


def _claims(held: Collection, judged: Sequence[Judgement], honest: Sequence[Judgement]) -> list[Block]:
    if not judged:
        return []
    tally = [(v, sum(j.verdict == v for j in judged)) for v in (*JUDGED, NOT_JUDGED)]
    counts = ", ".join(f"{n} {verdict}" for verdict, n in tally if n)
    none = all(j.verdict == NOT_JUDGED for j in judged)
    says = "the paper says" if held.spec.source else "says"
    blocks: list[Block] = [Heading(f"Claims{'' if none else _CLAIMS[held.manifest.budget]}: {counts}")]
    blocks.append(Verdicts(tuple(_verdict(j) for j in judged), says))
    if honest:
        blocks.append(Heading("The same, with the epoch not chosen on test", 3))
        blocks.append(Verdicts(tuple(_verdict(j) for j in honest), says))
    rows = [(j.claim.name, f.row, f.verdict, f.words) for j in judged if len(j.findings) > 1 for f in j.findings]
    if rows:
        blocks.append(Fold("row by row", (Table(("claim", "row", "verdict", "found"), tuple(rows), "llll"),)))
    legend = "Differences are left side minus right side of the claim. " + LEGEND.format(test=_TESTS[held.spec.test])
    if any("fold" in key for key in held.spec.repeat):
        legend += " Folds share most of their training examples, so p values over folds are somewhat too small."
    return blocks if none else [*blocks, Text(legend, small=True)]


def _verdict(judgement: Judgement) -> Verdict:
    claim = judgement.claim
    told = claim.compare or (f"{claim.grows} grows" if claim.grows else f"{claim.falls} falls")
    at_least = "" if claim.at_least is None else f", in at least {plural(claim.at_least, 'row')}"
    loose = any(op in told for op in (">=", "<=", "~"))
    tolerance = f", tolerance {claim.tolerance:g}" if claim.tolerance and loose else ""
    name = "" if claim.measure is None else f"{measure(claim.measure).label.split(' (')[0]}: "
    name += "distance from the cell's median: " if claim.of == "spread" else ""
    name = "" if judgement.verdict == NOT_JUDGED else name
    return Verdict(judgement.verdict, claim.name, f"{claim.says} `{told}`{at_least}{tolerance}", name + judgement.words)


def _main_table(held: Collection, name: str) -> list[Block]:
    """Return the blocks of published and measured numbers: a grid as in the paper, then every cell with its difference."""
    spec, kind = held.spec, measure(name)
    chosen = f", at {_epoch(held)}" if name == "accuracy" else ""
    says = f"Measured mean ± sample standard deviation (divided by n − 1) over repeats{chosen}; in square brackets as published."
    blocks: list[Block] = [Text(says)]
    if len(spec.columns) <= _MOST_COLUMNS:
        blocks.append(_compared(held, name))
    if spec.accuracy == "best_test" and name == "accuracy":
        blocks.append(Text(f"Honestly, at the epoch not chosen on test ({held.honest_words()}):"))
        blocks.append(_grid(held, lambda cell: measured(held.honest(cell), kind.decimals)))
    blocks += identical(held)
    every = _every_cell(held, name)
    folded = len(every.rows) > _MOST_CELLS and len(spec.columns) <= _MOST_COLUMNS
    blocks.append(Fold("every cell, with n and difference", (every,)) if folded else every)
    return [*blocks, *([Text(LEGEND_OF_MARKS, small=True)] if held.marks() else [])]


def identical(held: Collection) -> list[Block]:
    """Return a note on the cells with the same runs; empty if there are none."""
    if not held.twins:
        return []
    return [
        Text(
            f"{' '.join(identical_lines(held))} Identical (=): the weights are equal, bit for bit, in every repeat that both "
            "completed, so that the two are one result and not two."
        )
    ]


def _every_measure(held: Collection) -> list[Block]:
    """Return a folded table for each measure."""
    blocks: list[Block] = []
    for name in held.spec.measures:
        if held.has(name):
            blocks.append(Fold(f"{_heading(measure(name))}, with spread", tuple(_other_table(held, name))))
    return blocks


def _epoch(held: Collection) -> str:
    """Return the epoch of the accuracy as a text; runs without a validation part have no best epoch, but a last one."""
    last = {"last epoch": "the last epoch (nothing was held out to choose one by)"}
    last["best on validation or last epoch"] = f"{_ACCURACIES['best_val']}, or the last of a run that held nothing out"
    told = _ACCURACIES[held.spec.accuracy]
    return last.get(held.honest_words(), told) if held.spec.accuracy == "best_val" else told


def _grid(held: Collection, entry: Callable[[Cell], str]) -> Table:
    """Return a table of rows by columns as in the paper, or of columns by rows; `entry` returns the text of a cell."""
    spec, turned = held.spec, held.spec.lines == "columns"
    rows, columns = (held.rows_run(), held.columns_run()) if turned else (list(spec.rows), list(spec.columns))
    lines = [["", *(spec.columns[column].label for column in columns)]]
    for row in rows:
        told = (entry((row, column)) if spec.has(row, column) else "" for column in columns)
        lines.append([spec.rows[row].label, *told])
    head, *body = map(tuple, zip(*lines, strict=True) if turned else lines)
    return Table(head, tuple(body), "l" + "r" * (len(head) - 1))


def _compared(held: Collection, name: str) -> Table:
    """Return the grid of a measure with entries ``83.1 ± 0.4 [81.9]``, and the best of each row (with ties in print) in bold."""
    best = {cell for row in held.spec.rows for cell in held.best(row, name)}

    def entry(cell: Cell) -> str:
        text = measured_in(held, cell, name, cell in best)
        published = held.spec.published_in(name).get(cell)
        return f"{text}\n[{printed(published)}]" if published else text

    return _grid(held, entry)


def _every_cell(held: Collection, name: str) -> Table:
    spec, kind = held.spec, measure(name)
    honest = spec.accuracy == "best_test" and name == "accuracy"
    lines = []
    for cell, runs in held.runs.items():
        published, summary = spec.published_in(name).get(cell), held.summary(cell, name)
        if not runs and published is None:
            continue
        row, column = spec.rows[cell[0]].label, spec.columns[cell[1]].label
        theirs = printed(published) if published else NOTHING
        theirs += f" (n = {published.n})" if published and published.n else ""
        ours = measured(summary, kind.decimals) if runs else "not in this budget"
        away = held.difference(cell, name)
        difference = NOTHING if away is None else signed(away, kind.decimals)
        line = [row, column, theirs, ours, number(summary.n, 0) if runs else NOTHING, difference]
        lines.append((*line, *([measured(held.honest(cell), kind.decimals)] if honest else [])))
    head = ("row", "column", "published", "measured", "n", f"difference,{unit_of_difference(kind.unit) or ' absolute'}")
    return Table((*head, *(["not chosen on test"] if honest else [])), tuple(lines), "llrrrr" + "r" * honest)


def _other_table(held: Collection, name: str) -> list[Block]:
    """Return the blocks of a measure other than the main one; with differences if the paper prints numbers of it."""
    kind = measure(name)
    across = len(held.rows_run() if held.spec.lines == "columns" else held.spec.columns)
    note: list[Block] = [Text(f"{capital(kind.note)}.", small=True)] if kind.note else []
    if across <= _MOST_COLUMNS:
        return [_compared(held, name), *note]
    if held.spec.published_in(name):
        return [_every_cell(held, name), *note]
    lines = [
        (held.spec.rows[r].label, held.spec.columns[c].label, measured(held.summary((r, c), name), kind.decimals))
        for (r, c), runs in held.runs.items()
        if runs
    ]
    return [Table(("row", "column", "measured"), tuple(lines), "llr"), *note]


def _settings(held: Collection) -> list[Block]:
    spec = held.spec
    blocks: list[Block] = [Heading("Settings"), Text(f"Split: {spec.split}")]
    how = _TESTS[spec.test]
    repeats = "".join(f", times the values {', '.join(map(str, v))} of `{k}`" for k, v in spec.repeat.items())
    epoch = "" if measure(spec.measures[0]).is_time else f"The accuracy is that of {_epoch(held)}. "
    seeds = plural(held.manifest.seeds, "seed")
    blocks.append(Text(f"{epoch}Repeats: {seeds}{repeats}. Cells are compared by {how}."))
    if spec.settings:
        rows = tuple((setting.what, setting.reading, setting.why) for setting in spec.settings)
        head = ("what the paper leaves out", "reading here", "why") if spec.source else ("what", "how", "why")
        blocks.append(Table(head, rows, "lll"))
    if spec.diverged:
        label = measure(spec.measures[0]).label
        told = f"A run that diverged counts as {spec.diverged.as_:g} in {label}: {spec.diverged.why}"
        blocks.append(Text(told))
    if spec.contradictions:
        rows = tuple((found.says, found.but, found.reading) for found in spec.contradictions)
        blocks += [Heading("Where the paper contradicts itself", 3)]
        blocks.append(Table(("the paper says", "but also", "reading here"), rows, "lll"))
    return blocks


def _heading(kind: Measure) -> str:
    text = capital(kind.label)
    return f"{text}, {kind.unit}" if kind.unit in ("%", "points") else text


def _value(value: object) -> str:
    return NOTHING if value is None else f"`{value}`"
