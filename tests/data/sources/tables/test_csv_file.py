"""CSV files of one's own: what becomes of each column, fitted on the training part alone, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from credit.cli.train import main
from credit.core.config.data_files import data_files
from credit.core.config.schema import NoiseConfig
from credit.core.errors import UserError
from credit.data import Data, describe, load
from credit.data.options import CsvData

ROWS = [
    {
        "size": 1.5 + (place % 7),
        "weight": 2 * place,
        "colour": ["red", "green", "blue"][place % 3],
        "kind": ["cat", "dog"][place % 2],
    }
    for place in range(60)
]


def table(path: Path, rows=ROWS, separator=",", **changes) -> Path:
    """Write rows; `changes`: by column, cells by row number, or one for all rows."""
    rows = [dict(row) for row in rows]
    for name, cells in changes.items():
        for place, row in enumerate(rows):
            row[name] = cells.get(place, row.get(name)) if isinstance(cells, dict) else cells
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def config(file: Path, **options) -> CsvData:
    return CsvData("csv", **{"path": str(file), "target": "kind", "batch_size": 4, "val_fraction": 0.25, **options})


def loaded(file: Path, seed=0, **options) -> Data:
    return load(config(file, **options), NoiseConfig(), seed=seed, device="cpu")


def weights(data: Data) -> dict[str, list[int]]:
    """The rows of each part, told by their weight, which is twice the row's number."""
    return {name: (data.split(name).x[:, 1] / 2).int().tolist() for name in ("train", "val", "test")}


def test_numbers_come_first_then_a_column_for_each_category(tmp_path):
    cfg = config(table(tmp_path / "mine.csv"))
    spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert spec.shape == data.shape == (5,) and data.names == ["cat", "dog"] and data.notes == []
    assert (
        (spec.train_size, spec.val_size, spec.test_size)
        == (36, 12, 12)
        == tuple(len(data.split(p)) for p in ("train", "val", "test"))
    )
    for name, places in weights(data).items():
        part = data.split(name)
        for row, y, place in zip(part.x.tolist(), part.y.tolist(), places, strict=True):
            colour = [float(ROWS[place]["colour"] == one) for one in ("blue", "green", "red")]
            assert row == [ROWS[place]["size"], 2 * place, *colour] and data.names[y] == ROWS[place]["kind"]
    assert sorted(sum(weights(data).values(), [])) == list(range(60))
    assert torch.equal(data.test.y.bincount(), torch.tensor([6, 6]))


def test_numbers_are_standardised_by_the_training_part_and_categories_stay(tmp_path):
    data = loaded(table(tmp_path / "mine.csv"))
    prepared = data.prepare(data.train.x)
    torch.testing.assert_close(prepared[:, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(prepared[:, :2].std(0, correction=0), torch.ones(2))
    assert torch.equal(prepared[:, 2:], data.train.x[:, 2:]) and set(prepared[:, 2:].unique().tolist()) == {0, 1}


@pytest.mark.parametrize("missing", ["median", "most_frequent"])
def test_missing_values_are_imputed_from_the_training_part_alone(tmp_path, missing):
    whole = weights(loaded(table(tmp_path / "whole.csv")))
    train, test = whole["train"], whole["test"]
    sizes = {**dict.fromkeys(test, 100), train[0]: "", test[0]: "NA"}  # a median of all rows would be another
    colours = {**dict.fromkeys(train[4:10], "red"), train[1]: "", test[1]: "None"}
    data = loaded(table(tmp_path / "mine.csv", size=sizes, colour=colours), missing=missing)
    assert weights(data) == whole
    known = np.array([ROWS[place]["size"] for place in train[1:]])
    values, counts = np.unique(known, return_counts=True)
    expected = np.median(known) if missing == "median" else values[counts.argmax()]
    assert data.train.x[0, 0] == data.test.x[0, 0] == pytest.approx(expected)
    assert data.train.x[1, 2:].tolist() == data.test.x[1, 2:].tolist() == [0, 0, 1]  # red


def test_an_unseen_category_is_refused_or_zero(tmp_path):
    whole = weights(loaded(table(tmp_path / "whole.csv")))
    path = table(tmp_path / "mine.csv", colour={whole["test"][2]: "pink"})
    row = whole["test"][2] + 1
    with pytest.raises(
        UserError, match=rf"column 'colour': 'pink' \(row {row}\) is in the validation or test part, but not in"
    ):
        describe(config(path))
    data = loaded(path, unseen="zero")
    assert data.shape == (5,) and data.test.x[2, 2:].tolist() == [0, 0, 0]
    with pytest.raises(
        UserError, match=r"data.split_seed=null with data.unseen=zero: each seed's training part has categories"
    ):
        describe(config(path, unseen="zero", split_seed=None))


def test_each_seed_splits_its_own_way_with_null(tmp_path):
    path = table(tmp_path / "mine.csv")
    one, two = (loaded(path, seed, split_seed=None) for seed in (0, 1))
    assert weights(one) != weights(two) and describe(config(path, split_seed=None)).shape == one.shape == two.shape
    assert weights(one) == weights(loaded(path, 5)) and one.digest != two.digest


def test_a_test_file_is_the_test_part(tmp_path):
    train = table(tmp_path / "train.csv", ROWS[:40])
    test = table(tmp_path / "test.csv", [dict(reversed(row.items())) for row in ROWS[40:]])  # columns in another order
    cfg = config(train, test_path=str(test))
    data = load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert weights(data)["test"] == list(range(40, 60)) and describe(cfg).test_size == 20
    assert list(data_files(cfg)) == ["test.csv", "train.csv"]
    assert len(loaded(train, test_path=str(test), test_fraction=0.5).test) == 30  # of both together
    table(test, [{name: row[name] for name in ("size", "weight", "kind")} for row in ROWS[40:]])
    with pytest.raises(UserError, match=r"test.csv: has no column colour, which .*train.csv has"):
        describe(cfg)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ({place: [10, 9, 100][place % 3] for place in range(60)}, ["9", "10", "100"]),
        ({place: [0.5, "1.0", 1][place % 3] for place in range(60)}, ["0.5", "1"]),
        ({place: ["b", "10", "a"][place % 3] for place in range(60)}, ["10", "a", "b"]),
        ({place: place % 2 == 0 for place in range(60)}, ["False", "True"]),
    ],
)
def test_classes_are_of_any_type_and_sorted(tmp_path, cells, names):
    data = loaded(table(tmp_path / "mine.csv", kind=cells))
    assert data.names == names
    for y, place in zip(data.train.y.tolist(), weights(data)["train"], strict=True):
        held = str(cells[place])
        assert names[y] == held or float(names[y]) == float(held)


def test_options_say_what_a_column_is(tmp_path):
    path = table(tmp_path / "mine.csv", separator=";", weight={place: place % 4 for place in range(60)})
    data = loaded(path, separator="semicolon", categorical=["weight"], drop=["size"])
    assert data.shape == (7,) and (data.train.x.sum(1) == 2).all()


def test_columns_that_tell_nothing_are_noted(tmp_path):
    data = loaded(table(tmp_path / "mine.csv", size=3, colour="red"))
    assert data.notes == ["constant over the training part, and so without information: 2 columns (size, colour)"]
    assert not data.prepare(data.test.x)[:, 0].any()
    numbered = loaded(table(tmp_path / "mine.csv", weight={place: 60 - place for place in range(60)}))
    assert numbered.notes == ["numbers the rows, which a network may learn by heart (data.drop): column weight"]


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"path": None}, "does not say which one; give the file: data.path=..."),
        ({}, {"path": "nothing.csv"}, "data.path=nothing.csv: there is no file at nothing.csv or"),
        ({}, {"test_path": "nothing.csv"}, "data.test_path=nothing.csv: there is no file"),
        ({}, {"target": None}, "does not say which column is the class; write data.target=..., one of size, weight, colour, kind"),
        ({}, {"target": "kinds"}, "has no such column; did you mean 'kind'"),
        ({}, {"separator": "tab"}, "its one column is 'size,weight,colour,kind': is data.separator=tab right?"),
        ({}, {"drop": ["sise"]}, "data.drop: "),
        ({}, {"drop": ["kind"]}, "'kind' is the target; leave it out of data.drop"),
        ({}, {"drop": ["size"], "categorical": ["size"]}, "both name 'size'"),
        ({}, {"drop": ["size", "weight", "colour"]}, "has no column but the target 'kind' that is not in data.drop"),
        ({"kind": "cat"}, {}, "every value of the target 'kind' is cat, and a classifier needs two or more"),
        ({"kind": {4: ""}}, {"missing": "median"}, "the target 'kind' is missing in 1 rows, row 5 the first"),
        ({"kind": {p: p / 7 for p in range(60)}}, {}, "has 60 different values in 60 rows, with fractions: these are no classes"),
        ({"size": {3: "big"}}, {}, "column 'size' has numbers, but text in row 4, 'big' first. If it stands for a missing value"),
        ({"size": {3: "inf"}}, {}, "column 'size' is not finite in row 4"),
        ({"size": {3: ""}, "colour": {5: "NA"}}, {}, "missing values in 2 columns (size, colour): 'size' has 1 of 60, row 4 the"),
        ({"size": ""}, {"missing": "median"}, "column 'size' has no value in the training part"),
        ({"colour": {p: f"id{p}" for p in range(60)}}, {}, "'colour' is text with 60 different values in 60 rows"),
        ({}, {"missing": "mean"}, "data.missing=mean"),
        ({}, {"augment": ["flip"]}, "would change nothing"),
        ({}, {"normalize": "zca"}, "is for images; a table's columns take none, unit, standard"),
        ({}, {"download": True}, "would change nothing"),
        ({}, {"fold": 1}, "data.fold=1 would change nothing"),
        ({}, {"batch_size": 100}, "Use data.batch_size=36 or less"),
        ({}, {"val_size": 50, "val_fraction": 0.1}, "data.val_size=50 of 48 training examples leaves none to train on"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_training(tmp_path, changes, options, words):
    with pytest.raises(UserError) as refusal:
        describe(config(table(tmp_path / "mine.csv", **changes), **options))
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "has no row below its header"),
        (b"a,kind\n", "has no row below its header"),
        (b"a,a,kind\n1,2,x\n", "two columns are named 'a'"),
        (b",a,kind\n0,2,x\n", "column 1 has no name in the header. If it is the index that pandas writes, save"),
        (b"a,kind\n1,x\n1,2,y\n", "line 3 has 3 cells, the header 2"),
        (b"a,kind\n\xff,x\n", "is not a table of text in UTF-8"),
        (b'a,kind\n"1,x\n', "is not a table of text in UTF-8"),
        (b"a,kind\n1,x\n2,y\n", "has 2 rows; a fifth is the test part"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, text, words):
    (tmp_path / "mine.csv").write_bytes(text)
    with pytest.raises(UserError) as refusal:
        describe(config(tmp_path / "mine.csv"))
    assert words in str(refusal.value) and "mine.csv" in str(refusal.value)


def test_the_command_trains_on_a_table_and_refuses_a_wrong_target(tmp_path, capsys):
    path = table(tmp_path / "mine.csv")
    words = ["rule=bp", "data=csv", f"data.path={path}", "data.batch_size=8", "arch.widths=[4]", "trainer.steps=3"]
    assert main([*words, "data.target=kind", "trainer.progress=false"]) == 0
    [result] = (tmp_path / "runs").glob("*/result.json")
    assert json.loads(result.read_text())["data"]["shape"] == [5]
    assert main([*words, "data.target=king"]) == 2
    assert "did you mean 'kind'" in capsys.readouterr().err


def test_a_real_table_with_names_and_numbers_loads(need_data):
    path = need_data("tabular/credit-g_all20.csv") / "tabular" / "credit-g_all20.csv"
    data = loaded(path, target="target")
    assert data.names == ["bad", "good"] and len(data.train) == 600
    assert data.shape[0] > 50 and data.train.x.isfinite().all() and ((data.train.x[:, 7:] == 1).sum(1) == 13).all()
