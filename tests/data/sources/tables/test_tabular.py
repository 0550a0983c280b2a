"""Tables: the eight sets as published, folds, scaling on the training part alone, and what is refused."""

import gzip
import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from credit.core import registry
from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import Batches, describe, evaluation, kinds, load
from credit.data.normalize import fit_columns
from credit.data.sources.tables import tabular
from credit.data.sources.tables.tabular import TABLES, read_table, table_digest
from tests.support.fakes import flip_byte

README = {  # rows, features, classes as shared/data says them
    "iris": (150, 4, 3),
    "wine": (178, 13, 3),
    "blood": (748, 4, 2),
    "vehicle": (846, 18, 4),
    "credit-g": (1000, 7, 2),
    "segment": (2310, 19, 7),
    "phoneme": (5404, 5, 2),
    "electricity": (45312, 7, 2),
}


def cfg(name="iris", **options):
    return DataConfig(**{"kind": "tabular", "name": name, "batch_size": 8, **options})


def fold(name="iris", seed=0, noise=0.0, **options):
    kind = "symmetric" if noise else "none"
    return load(cfg(name, **options), NoiseConfig(kind, noise), seed=seed, device="cpu")


def refusal(call, *args):
    with pytest.raises(UserError) as error:
        call(*args)
    return str(error.value)


def rows(x):
    """The rows of (N, F) as a sorted list: a set of examples, however ordered."""
    return sorted(map(tuple, x.tolist()))


@pytest.mark.parametrize("name", README)
def test_every_set_has_the_published_rows_features_and_classes(name, need_data):
    file = TABLES[name].file
    data_root = need_data(f"tabular/{file[0]}") if file else need_data()
    values = read_table(name, data_root)
    count, features, classes = README[name]
    assert values.x.shape == (count, features) and values.x.dtype == torch.float64
    assert torch.bincount(values.y).tolist() == list(TABLES[name].classes.values())
    assert len(TABLES[name].classes) == classes and torch.isfinite(values.x).all()
    assert list(TABLES[name].classes) == sorted(TABLES[name].classes)
    if name == "phoneme":
        assert TABLES[name].digest is None
    else:
        assert table_digest(values) == TABLES[name].digest
    spec, data = describe(cfg(name, root=str(data_root))), fold(name, root=str(data_root))
    assert spec.shape == data.shape == (features,) and spec.outputs == data.classes == classes
    assert (spec.train_size, spec.val_size, spec.test_size) == (len(data.train), len(data.val), len(data.test))
    assert data.train.x.dtype == torch.float32


def test_electricity_is_the_csv_without_day(need_data):
    data_root = need_data("tabular/electricity.csv")
    path = data_root / "tabular" / "electricity.csv"
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index("day")
    expected = [value for at, value in enumerate(lines[12345].split(",")) if at != place]
    values = read_table("electricity", data_root)
    assert values.x[12344].tolist() == [float(value) for value in expected[:-1]]
    assert list(TABLES["electricity"].classes)[int(values.y[12344])] == expected[-1]


@pytest.mark.parametrize(("name", "folds"), [("iris", 5), ("wine", 5), ("wine", 7)])
def test_folds_are_disjoint_cover_the_set_and_are_stratified(name, folds):
    whole = read_table(name, tabular.data_root(DataConfig()))
    tests = []
    for number in range(folds):
        config = cfg(name, fold=number, folds=folds, val_fraction=0.0)
        data = load(config, NoiseConfig(), seed=0, device="cpu")
        assert describe(config).test_size == len(data.test) and describe(config).train_size == len(data.train)
        assert rows(torch.cat([data.train.x, data.test.x])) == rows(whole.x.float())
        share = torch.bincount(data.test.y) - torch.bincount(whole.y) / folds
        assert share.abs().max() < 1
        tests += data.test.x.tolist()
    assert sorted(map(tuple, tests)) == rows(whole.x.float())


def test_folds_depend_on_their_own_seed_and_not_on_the_runs():
    first = fold(seed=0)
    again = fold(seed=7)
    assert torch.equal(first.test.x, again.test.x) and torch.equal(first.val.x, again.val.x)
    assert first.digest == again.digest
    assert not torch.equal(first.test.x, fold(fold_seed=1).test.x)
    assert not torch.equal(first.test.x, fold(fold=1).test.x)
    assert len({fold(fold=number).digest for number in range(5)}) == 5


def test_folds_are_scikit_learns():
    from sklearn.model_selection import StratifiedKFold

    whole = read_table("iris", tabular.data_root(DataConfig()))
    splits = list(StratifiedKFold(5, shuffle=True, random_state=3).split(whole.x, whole.y))
    data = fold(fold=2, fold_seed=3, val_fraction=0.0)
    assert torch.equal(data.test.x, whole.x[torch.from_numpy(splits[2][1])].float())
    assert torch.equal(data.train.y, whole.y[torch.from_numpy(splits[2][0])])


def test_columns_are_standardised_by_the_training_part_alone():
    data = fold("wine", fold=1)
    train = data.train.x.double().numpy()
    shift, scale = train.mean(0), train.std(0)
    for part in (data.train, data.val, data.test):
        expected = (part.x.double().numpy() - shift) / scale
        np.testing.assert_allclose(data.prepare(part.x).numpy(), expected, atol=2e-5)
    together = torch.cat([data.train.x, data.val.x, data.test.x]).double().numpy()
    assert np.abs(together.mean(0) - shift).max() > 1e-3  # the whole set's mean would not pass


def test_unit_scaling_spans_zero_to_one_on_the_training_part():
    data = fold("wine", normalize="unit")
    low, high = data.train.x.amin(0), data.train.x.amax(0)
    scaled = data.prepare(data.train.x)
    assert scaled.min() == 0 and scaled.max() <= 1 + 1e-6
    torch.testing.assert_close(data.prepare(data.test.x), (data.test.x - low) / (high - low))
    assert torch.equal(fold("wine", normalize="none").prepare(data.test.x), data.test.x)


@pytest.mark.parametrize("name", ["standard", "unit"])
def test_a_column_of_one_value_becomes_zero_even_where_it_was_never_seen(name):
    x = torch.tensor([[1.0, 0.1], [3.0, 0.1], [5.0, 0.1]])
    scaled = fit_columns(name, x)(torch.tensor([[1.0, 0.1], [9.0, 7.0]]))
    assert torch.equal(scaled[:, 1], torch.zeros(2)) and torch.isfinite(scaled).all()
    assert torch.equal(fit_columns("none", x)(x), x)


def test_label_noise_touches_the_training_part_alone():
    clean, noisy = fold(), fold(noise=0.4)
    assert int(noisy.corrupted.sum()) == round(0.4 * len(noisy.train))
    assert torch.equal(noisy.clean_y, clean.train.y) and torch.equal(noisy.test.y, clean.test.y)
    assert torch.equal(noisy.val.y, clean.val.y) and noisy.digest == clean.digest


def test_batches_are_rows_and_evaluation_gives_each_once():
    data, config = fold(), cfg(drop_last=False)
    batches = Batches(data, config, seed=0)
    seen = [batches.at(step) for step in range(batches.steps_per_epoch)]
    assert seen[0].x.shape == (8, 4) and seen[0].x.dtype == torch.float32
    assert torch.equal(torch.cat([batch.index for batch in seen]).sort().values, torch.arange(len(data.train)))
    assert torch.equal(seen[0].x, data.prepare(data.train.x[seen[0].index]))
    assert sum(len(y) for _, y in evaluation(data, "test", 7)) == 30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": None}, "does not say which table; give data.name=..., valid: blood, credit-g"),
        ({"name": "vehicel"}, "no such table; did you mean 'vehicle'?"),
        ({"fold": 5}, "data.fold=5: there are data.folds=5, counted 0..4"),
        ({"folds": 51}, "data.folds=51: must be 2..50, for every fold needs a row of each class"),
        ({"folds": 1}, "data.folds=1 is outside [2, inf)"),
        (
            {"normalize": "zca"},
            "data.normalize=zca with data=tabular: is for images; a table's columns take none, unit",
        ),
        ({"normalize": "gcn"}, "is for images"),
        ({"augment": ["crop"]}, "data.augment=[crop] would change nothing"),
        ({"crop_padding": 2}, "data.crop_padding=2 would change nothing"),
        ({"image_size": 8}, "it is read with data=image_folder alone"),
        ({"path": "x"}, "data.path=x would change nothing"),
        ({"batch_size": 109}, "larger than the training part, 108 examples"),
    ],
)
def test_what_does_not_fit_a_table_is_refused(options, words):
    assert words in refusal(describe, cfg(**{"name": "iris", **options}))


@pytest.mark.parametrize("rule", ["bp", "lisp_margin"])
def test_a_fold_trains_from_the_command_lines_words(rule):
    from credit.core.config.compose import compose
    from credit.training import train

    words = [f"rule={rule}", "data=tabular", "data.name=iris", "data.fold=2", "trainer.epochs=30"]
    config = compose(words)
    assert config.arch["kind"] == "mlp" and not config.data.drop_last
    result = train(config, console=False)
    assert result["name"].startswith(f"{rule}-mlp-tabular_iris-f2-")
    assert result["last"]["test_top1"] > 0.6  # chance: a third
    assert result["data_digest"] == fold(fold=2).digest


@pytest.mark.parametrize("options", [{"fold": 1}, {"name": "iris"}, {"folds": 3}, {"fold_seed": 1}])
def test_images_have_no_folds(options):
    option = next(iter(options))
    assert f"data.{option}={options[option]} would change nothing: it is read with data=tabular alone" in refusal(
        describe, DataConfig(**options)
    )


def test_networks_for_images_say_that_rows_are_not():
    from credit.models import build

    with pytest.raises(UserError, match=r"arch lenet5 .*needs images .* shape \(4,\); use arch=mlp"):
        build({"kind": "lenet5"}, describe(cfg()).shape, 3, seed=0)


def test_every_kind_is_known_to_the_configuration():
    assert kinds() == sorted(registry.built_in("data"))


def test_a_missing_table_says_which_file_where_and_how_to_fetch_it(tmp_path):
    message = refusal(describe, cfg("vehicle", root=str(tmp_path)))
    file = TABLES["vehicle"].file
    assert file is not None
    for words in ("tabular/vehicle.csv", file[1], str(tmp_path / "tabular"), "CREDIT_DATA"):
        assert words in message
    assert "credit-train data=tabular data.name=vehicle data.download=true" in message
    assert "which does not exist" in refusal(describe, cfg("blood", root=str(tmp_path / "nowhere")))
    assert describe(cfg("vehicle", root=str(tmp_path), download=True)).shape == (18,)


def test_a_changed_csv_names_both_digests(tmp_path, need_data):
    source = need_data("tabular/vehicle.csv") / "tabular" / "vehicle.csv"
    (tmp_path / "tabular").mkdir()
    path = tmp_path / "tabular" / "vehicle.csv"
    shutil.copy(source, path)
    flip_byte(path, 5000)
    message = refusal(read_table, "vehicle", tmp_path)
    assert str(path) in message
    assert "expected sha256 65c4c7921c42e2405f639d93a054948445755eb0431567c865c5c9508423e7f6" in message
    assert f"found    sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in message


def test_a_changed_bundled_set_is_noticed(monkeypatch):
    monkeypatch.setitem(TABLES, "iris", replace(TABLES["iris"], digest="0" * 64))
    message = refusal(fold)
    assert "scikit-learn's iris" in message and "expected sha256 " + "0" * 64 in message


ARFF = """@RELATION small
@ATTRIBUTE date NUMERIC
@ATTRIBUTE day {1,2,3}
@ATTRIBUTE price NUMERIC
@ATTRIBUTE class {UP,DOWN}
@DATA
"""


def openml_answers(folder, data_id, lines, version="1"):
    """Write what openml.org answers for a data set into scikit-learn's cache, so that fetch_openml needs no network."""
    content = (ARFF + "".join(lines)).encode()
    names = [("date", "numeric"), ("day", "nominal"), ("price", "numeric"), ("class", "nominal")]
    features = [
        {"index": str(at), "name": name, "data_type": kind, "is_target": str(name == "class").lower(),
         "is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
        for at, (name, kind) in enumerate(names)
    ]  # fmt: skip
    described = {
        "id": str(data_id), "name": "small", "version": version, "format": "ARFF", "status": "active", "file_id": "9",
        "url": "https://www.openml.org/data/v1/download/9/small.arff", "default_target_attribute": "class",
        "md5_checksum": hashlib.md5(content).hexdigest(), "description": "",
    }  # fmt: skip
    home = folder / "openml" / "openml.org"
    for path, answer in {
        f"api/v1/json/data/{data_id}": json.dumps({"data_set_description": described}).encode(),
        f"api/v1/json/data/features/{data_id}": json.dumps({"data_features": {"feature": features}}).encode(),
        f"api/v1/json/data/qualities/{data_id}": json.dumps(
            {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(len(lines))}]}}
        ).encode(),
        "data/v1/download/9/small.arff": content,
    }.items():
        file = home / (path + ".gz")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(answer))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A table of 20 rows on "openml.org": two numeric columns around a nominal one."""
    lines = [f"{row}.5,{1 + row % 3},{row * row},{'UP' if row % 2 else 'DOWN'}\n" for row in range(20)]
    openml_answers(tmp_path / "tabular", 151, lines)
    x = torch.tensor([[row + 0.5, row * row] for row in range(20)], dtype=torch.float64)
    values = tabular.Values(x, torch.tensor([row % 2 for row in range(20)]))
    table = tabular.Table(2, {"DOWN": 10, "UP": 10}, table_digest(values), ("small.csv", "0" * 64), 151)
    monkeypatch.setitem(TABLES, "small", table)
    return tmp_path, values


def test_openml_is_fetched_once_keeps_numeric_columns_and_is_checked(small):
    root, values = small
    config = cfg("small", root=str(root), download=True, batch_size=2)
    data = load(config, NoiseConfig(), seed=0, device="cpu")
    assert data.shape == (2,) and data.names == ["DOWN", "UP"]
    shutil.rmtree(root / "tabular" / "openml")  # from here on there is nothing to fetch from
    again = load(cfg("small", root=str(root), batch_size=2), NoiseConfig(), seed=0, device="cpu")
    assert again.digest == data.digest
    got = read_table("small", root)
    assert torch.equal(got.x, values.x) and torch.equal(got.y, values.y)


def test_another_table_from_openml_is_refused_and_not_written(small, monkeypatch):
    root, _ = small
    monkeypatch.setitem(TABLES, "small", replace(TABLES["small"], digest="0" * 64))
    message = refusal(load_small, root)
    assert "openml.org, data set 151" in message and "expected sha256 " + "0" * 64 in message
    assert not (root / "tabular" / "small-openml.npz").exists()
    monkeypatch.setitem(TABLES, "small", replace(TABLES["small"], classes={"DOWN": 9, "UP": 11}))
    assert "its classes are {'DOWN': 10, 'UP': 10}" in refusal(load_small, root)


@pytest.mark.parametrize(
    "change", [{"y": np.arange(20) % 2 + 1}, {"y": np.zeros(20, int)}, {"x": np.full((20, 2), np.nan)}]
)
def test_a_table_without_a_digest_is_held_against_its_classes(small, monkeypatch, change):
    root, values = small
    monkeypatch.setitem(TABLES, "small", replace(TABLES["small"], digest=None))
    path = root / "tabular" / "small-openml.npz"
    np.savez(path, x=values.x.numpy(), y=values.y.numpy())
    assert read_table("small", root).x.shape == (20, 2)
    np.savez(path, **{"x": values.x.numpy(), "y": values.y.numpy(), **change})
    assert "its labels are not those of {'DOWN': 10, 'UP': 10}, or a value is not finite" in refusal(
        read_table, "small", root
    )


def test_another_version_on_openml_is_refused(small):
    root, _ = small
    openml_answers(root / "tabular", 151, ["1.5,1,1,UP\n"], version="2")
    assert "is version 2 now; expected version 1" in refusal(load_small, root)


def test_a_damaged_download_is_named(small):
    root, _ = small
    load_small(root)
    path = root / "tabular" / "small-openml.npz"
    flip_byte(path, 200)
    assert str(path) in refusal(read_table, "small", root)
    path.with_name(path.name + ".sha256").unlink()
    path.write_bytes(path.read_bytes()[:300])
    assert f"corrupt data: {path} (300 bytes) is not a whole .npz" in refusal(read_table, "small", root)


def load_small(root):
    return load(cfg("small", root=str(root), download=True, batch_size=2), NoiseConfig(), seed=0, device="cpu")
