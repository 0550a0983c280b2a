"""Measures and pictures of updates beside backprop's, layer by layer, and published numbers of measures beside the main one."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from credit.core.errors import UserError
from credit.tables.figures.courses import by_depth
from credit.tables.figures.plots import draw
from credit.tables.measures import angles
from credit.tables.measures.collect import Run
from credit.tables.measures.measures import measure
from credit.tables.report.report import write_report
from credit.tables.spec.load import load
from credit.tables.spec.schema import Figure, Published
from tests.support.table_digits import Digits
from tests.support.written import SMALL, write


def row(step: int, epoch: float, *found: float) -> dict[str, Any]:
    """A row whose layers have these angles; their norms are 3, 4, ..., backprop's twice that, the differences as much as it."""
    sizes = enumerate(found, start=3)
    layers = {
        f"fc{size}": {"angle": angle, "norm": size, "reference_norm": 2 * size, "difference_norm": size}
        for size, angle in sizes
    }
    return {"step": step, "epoch": epoch, "alignment": layers}


ROWS = [
    row(1, 0.25, 40, 60),
    row(2, 0.5, 30, 50),
    {"step": 3, "epoch": 0.75, "test_top1": 0.5},
    row(4, 1, 10, 20),
    row(8, 2, 6, 8),
]


def test_numbers_of_the_angles_from_rows() -> None:
    wanted = {"angle": 7, "largest_angle": 8, "early_angle": 45, "angle_fall": 38, "difference_share": 50}
    for name, number in wanted.items():
        found = measure(name)
        assert found.diagnostic == "alignment"
        assert found.function({}, lambda: ROWS, "last") == pytest.approx(number), name
        assert found.function({}, lambda: [{"step": 1, "epoch": 1}], "last") is None, name
    assert measure("max.largest_angle").function({}, lambda: ROWS, "last") == 60
    assert measure("angle").by_epoch is not None and measure("early_angle").by_epoch is None


def test_older_rows_without_angles_have_none() -> None:
    older = [{"step": 1, "epoch": 1, "alignment": {"fc": {"cosine": 0.5, "norm_ratio": 1}}}]
    for name in angles.MEASURES:
        assert measure(name).function({}, lambda: older, "last") is None


def test_the_first_steps_are_those_measured_one_by_one() -> None:
    assert [found["step"] for found in angles.first_steps(ROWS)] == [1, 2]
    assert [found["step"] for found in angles.later(ROWS)] == [4, 8]
    every = [row(step, step / 2, 1) for step in (1, 2, 3)]
    assert [found["epoch"] for found in angles.later(every)] == [1, 1.5]  # an epoch's end, and the last
    assert angles.first_steps(ROWS[3:]) == [] and len(angles.later(ROWS[3:])) == 2


def test_layers_by_step_and_by_epoch_are_means_over_completed_runs() -> None:
    held = [Run.__new__(Run) for _ in range(3)]
    others = [row(1, 0.25, 20, 0), row(2, 0.5, 10, 10), row(4, 1, 30, 20), row(8, 2, 4, 8)]
    for run, rows, status in zip(held, (ROWS, others, others), ("complete", "complete", "diverged"), strict=True):
        vars(run).update(rows=rows, result={"status": status})
    assert by_depth(held, "angle", "step") == {"fc3": {1: 30, 2: 20}, "fc4": {1: 30, 2: 30}}
    assert by_depth(held, "angle", "epoch") == {"fc3": {1: 20, 2: 5}, "fc4": {1: 20, 2: 8}}
    assert by_depth(held, "reference_norm", "epoch")["fc3"] == {1: 6, 2: 6}
    assert by_depth(held, "cosine", "epoch") == {}


def test_top5_is_taken_at_the_accuracys_epoch() -> None:
    rows = [{"test_top1": 0.25, "test_top5": 0.75}, {"test_top1": 0.5, "test_top5": 0.5}]
    result = {"best": rows[0], "last": rows[1]}
    found = measure("top5")
    assert [found.function(result, lambda: rows, mode) for mode in ("best_val", "last", "best_test")] == [75, 50, 75]
    assert found.by_epoch is not None and found.by_epoch(rows[0]) == 75
    assert found.function({"last": {"test_top1": 1.0}}, list, "last") is None


def test_a_lipschitz_estimate_and_its_logarithm() -> None:
    rows: list[dict[str, Any]] = [{"lipschitz": {"estimate": 10.0}}, {"lipschitz": {"estimate": 1000.0}}, {"epoch": 3}]
    assert measure("lipschitz").function({}, lambda: rows, "last") == 1000
    assert measure("log_lipschitz").function({}, lambda: rows, "last") == pytest.approx(3)
    dead = [{"lipschitz": {"estimate": 0.0}}]
    assert measure("log_lipschitz").function({}, lambda: dead, "last") is None


@pytest.mark.parametrize("key", [None, "difference_norm", "cosine"])
def test_a_line_a_layer_is_drawn_by_epoch(digits: Digits, tmp_path: Path, key: str | None) -> None:
    held = digits.collected()
    file = tmp_path / "layers.png"
    assert draw(Figure("layer_curves", "By epoch", key), held, file) and file.stat().st_size > 5000
    assert not draw(Figure("layer_steps", "By step", key), held, file) and not file.exists()  # measured once an epoch


def test_a_line_a_layer_is_drawn_by_step(digits: Digits, tmp_path: Path) -> None:
    held = digits.collected()
    for run in held.all():
        vars(run)["rows"] = [row(step, step / 9, 50 / step, 30 / step) for step in range(1, 6)]
    assert draw(Figure("layer_steps", "By step"), held, tmp_path / "steps.png")


ALSO = "also_published:\n  gap:\n    clean: {bp: 3.0 ± 0.5}\n    noisy: {margin: 12}\nclaims:\n"


def test_other_measures_have_published_numbers_too(own: Path) -> None:
    spec = load(write(own, SMALL.replace("claims:\n", ALSO)))
    assert spec.published_in("gap") == {
        ("clean", "bp"): Published(3.0, 0.5, line=spec.published_in("gap")["clean", "bp"].line),
        ("noisy", "margin"): Published(12.0, line=spec.published_in("gap")["noisy", "margin"].line),
    }
    assert spec.published_in("accuracy") == spec.published and spec.published_in("alignment") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALSO.replace("gap", "gaps"), "'gaps' is none of the table's other measures: did you mean 'gap'"),
        (
            ALSO.replace("gap", "accuracy"),
            "'accuracy' is none of the table's other measures: its numbers go into `published`",
        ),
        (ALSO.replace("bp: 3.0", "pb: 3.0"), "unknown column 'pb' in also_published.gap.clean: did you mean 'bp'"),
    ],
)
def test_numbers_of_what_is_not_measured_are_refused(own: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(write(own, SMALL.replace("claims:\n", text)))
    assert said in str(caught.value) and "small.yaml:" in str(caught.value)


def test_they_stand_beside_the_measured_ones_in_page_files_and_pictures(digits: Digits, tmp_path: Path) -> None:
    held = digits.collected()
    also = {"gap": {("clean", "bp"): Published(3.25, 0.5), ("noisy", "margin"): Published(12.0)}}
    bars = Figure("bars", "Gaps", "gap")
    spec = replace(digits.spec, also_published=also, figures=(bars, *digits.spec.figures))
    page = write_report(spec, digits.manifest, tmp_path, replace(held, spec=spec)).read_text()
    assert "[3.25 ± 0.50]" in page and "[12.0]" in page
    with (tmp_path / "report.csv").open() as file:
        lines = {(line["row"], line["column"], line["measure"]): line for line in csv.DictReader(file)}
    gap, accuracy = lines["clean", "bp", "gap"], lines["clean", "bp", "accuracy"]
    assert (gap["published_mean"], gap["published_std"], accuracy["published_mean"]) == ("3.25", "0.5", "94")
    assert float(gap["difference"]) == pytest.approx(float(gap["measured_mean"]) - 3.25, abs=1e-4)
    assert page.count("Hollow diamond: published.") == 3  # of gaps, and of accuracies twice


def test_in_a_wide_table_too_every_cell_has_its_difference(digits: Digits, tmp_path: Path) -> None:
    columns = {f"more{n}": replace(digits.spec.columns["margin"], name=f"more{n}", label=f"more {n}") for n in range(8)}
    also = {"gap": {("clean", "bp"): Published(3.25, 0.5)}}
    spec = replace(digits.spec, columns=digits.spec.columns | columns, also_published=also)
    held = replace(digits.collected(), spec=spec)
    page = write_report(spec, digits.manifest, tmp_path, held).read_text()
    section = page.split("Generalisation gap")[1].split("\n## ")[0]
    assert "3.25 ± 0.50" in section and "difference" in section


WRONG = [
    (
        "{kind: layer_curves, title: x, measure: accuracy}",
        "one of angle, cosine, norm, reference_norm, difference_norm",
    ),
    ("{kind: layer_steps, title: x}", "alignment is measured by no run of the table"),
]


@pytest.mark.parametrize(("figure", "said"), WRONG)
def test_pictures_of_what_no_layer_has_are_refused(own: Path, figure: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(write(own, SMALL.replace("{kind: bars, title: All}", figure)))
    assert said in str(caught.value)
