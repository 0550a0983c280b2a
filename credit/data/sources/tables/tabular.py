"""Tables of numbers: the eight OpenML sets of the LISP paper, each cut into stratified folds of which one is the test part.

A table is looked for in ``<data folder>/tabular``: first ``<set>.csv``, checked against its SHA-256, then
``<set>-openml.npz``, which ``data.download=true`` makes of what scikit-learn's `fetch_openml` brings. Iris and wine come
with scikit-learn. Whichever way it came, a table's values and labels have one pinned digest (`Table.digest`).

Only columns that OpenML calls numeric are used: credit-g's 7 of 20, and electricity's without the nominal `day`.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from credit.core.config.data_files import data_root
from credit.core.config.schema import DataConfig
from credit.core.errors import UserError, nearest
from credit.core.reading import reading
from credit.data.sources.digests import arrays_digest, check_sidecar, corrupt, file_digest, verified_bytes
from credit.data.sources.download import fetch
from credit.data.sources.files import Arrays, Whole
from credit.data.storage import Rows


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        features: number of columns used.
        classes: rows by class name; a class's number is its place here, the names sorted as text.
        digest: SHA-256 of values (float64) and labels by `table_digest`; None where the sources differ.
        file: its CSV in the data folder, with its SHA-256; None for sets of scikit-learn.
        openml: its id on openml.org; version 1 of each.
        drop: columns of the CSV that are not used.
    """

    features: int
    classes: dict[str, int]
    digest: str | None
    file: tuple[str, str] | None = None
    openml: int | None = None
    drop: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of examples."""
        return sum(self.classes.values())


@dataclass(frozen=True)
class Values:
    """A whole table: float64 (N, F) and int64 (N,)."""

    x: Tensor
    y: Tensor


def look(cfg: DataConfig) -> Whole:
    """Return the shape, number of classes and sizes of a fold, without reading the table.

    Raises:
        UserError: no or an unknown name, a fold that there is not, a missing file.
    """
    table = _table(cfg)
    if cfg.fold >= cfg.folds or cfg.fold < 0:
        raise UserError(f"data.fold={cfg.fold}: there are data.folds={cfg.folds}, counted 0..{cfg.folds - 1}")
    smallest = min(table.classes, key=lambda name: table.classes[name])
    if not 2 <= cfg.folds <= table.classes[smallest]:
        raise UserError(
            f"data.folds={cfg.folds}: must be 2..{table.classes[smallest]}, for every fold needs a row of each class, "
            f"and class {smallest} of {cfg.name} has {table.classes[smallest]}"
        )
    if table.file and not cfg.download and not _present(cfg.name or "", data_root(cfg)):
        raise UserError(_missing(cfg.name or "", data_root(cfg)))
    test = len(range(cfg.fold, table.rows, cfg.folds))  # StratifiedKFold deals the sorted labels out like cards
    return Whole((table.features,), len(table.classes), table.rows - test, test, Rows())


def read(cfg: DataConfig) -> Arrays:
    """Read a table, fetching it first where ``data.download`` allows it and it is not there, and part it by its fold.

    Raises:
        UserError: as `look`; another digest than the pinned one.
    """
    table, name, root = _table(cfg), cfg.name or "", data_root(cfg)
    if table.file and cfg.download:
        fetch(f"tabular-{name}", root, lambda: _present(name, root), lambda _, into: _download(name, into))
    look(cfg)
    values = read_table(name, root)
    train, test = _parts(values.y, cfg)
    x = values.x.float()
    return Arrays(x[train], values.y[train], x[test], values.y[test], list(table.classes), Rows())


def read_table(name: str, root: Path) -> Values:
    """Return a whole table from the data folder `root`, its digest checked.

    Raises:
        UserError: a file with another digest than the pinned one, or that cannot be read.
    """
    table = TABLES[name]
    if table.file is None:
        return _bundled(name, table)
    csv = root / "tabular" / table.file[0]
    return _read_csv(csv, table) if csv.is_file() else _read_npz(_npz(name, root), table)


def table_digest(values: Values) -> str:
    """Return the SHA-256 (hex) of a table's values and labels."""
    return arrays_digest({"x": values.x, "y": values.y})


def _table(cfg: DataConfig) -> Table:
    if not cfg.name:
        raise UserError(f"data=tabular: does not say which table; give data.name=..., {nearest('', TABLES)}")
    if cfg.name not in TABLES:
        raise UserError(f"data=tabular data.name={cfg.name}: no such table; {nearest(cfg.name, TABLES)}")
    return TABLES[cfg.name]


def _parts(y: Tensor, cfg: DataConfig) -> tuple[Tensor, Tensor]:
    """Return the rows of the training folds and of the test fold, in the table's order."""
    from sklearn.model_selection import StratifiedKFold  # here: slow to import

    folds = StratifiedKFold(cfg.folds, shuffle=True, random_state=cfg.fold_seed).split(np.zeros(len(y)), y.numpy())
    train, test = list(folds)[cfg.fold]
    return torch.from_numpy(train), torch.from_numpy(test)


def _bundled(name: str, table: Table) -> Values:
    from sklearn.datasets import load_iris, load_wine  # here: takes most of a second to import

    bunch = {"iris": load_iris, "wine": load_wine}[name]()
    x, y = bunch.data.astype(np.float64), bunch.target.astype(np.int64)
    values = Values(torch.from_numpy(x), torch.from_numpy(y))
    _check(values, table, f"scikit-learn's {name}")
    return values


def _read_csv(path: Path, table: Table) -> Values:
    assert table.file is not None
    content = verified_bytes(path, f"sha256:{table.file[1]}").decode()
    header, *lines = content.splitlines()
    used = [place for place, column in enumerate(header.split(",")[:-1]) if column not in table.drop]
    x = np.loadtxt(io.StringIO(content), delimiter=",", skiprows=1, usecols=used, ndmin=2)
    return Values(torch.from_numpy(x), _numbers([line.rpartition(",")[2] for line in lines], table, path.name))


def _numbers(labels: Sequence[str], table: Table, source: str) -> Tensor:
    found = {name: labels.count(name) for name in sorted(set(labels))}
    if found != table.classes:
        raise UserError(f"{source}: its classes are {found}; expected {table.classes}")
    number = {name: place for place, name in enumerate(table.classes)}
    return torch.tensor([number[label] for label in labels])


def _read_npz(path: Path, table: Table) -> Values:
    check_sidecar(path)
    with (
        reading(path, "a whole .npz with x and y", "delete it and fetch it again"),
        np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as members,
    ):
        values = Values(torch.from_numpy(members["x"]), torch.from_numpy(members["y"]))
    _check(values, table, str(path))
    return values


def _check(values: Values, table: Table, source: str) -> None:
    if values.x.shape != (table.rows, table.features) or len(values.y) != table.rows:
        raise UserError(
            f"{source}: a table of {tuple(values.x.shape)}; expected {table.rows} rows of {table.features} numbers"
        )
    counts = dict(enumerate(table.classes.values()))
    if table.digest is None and (Counter(values.y.tolist()) != counts or not values.x.isfinite().all()):
        raise UserError(
            f"{source}: its labels are not those of {table.classes}, or a value is not finite; fetch it again"
        )
    found = table_digest(values)
    if table.digest is not None and found != table.digest:
        raise corrupt(Path(source), "sha256", table.digest, found, "values and labels")


def _download(name: str, root: Path) -> None:
    """Fetch a table from openml.org and write ``<set>-openml.npz`` and its digest; the answers stay in ``openml/``."""
    table, folder = TABLES[name], root / "tabular"
    folder.mkdir(exist_ok=True)
    values = _from_openml(table, folder)
    path = _npz(name, root)
    beside = path.with_name(f".{path.name}")
    with open(beside, "wb") as stream:
        np.savez(stream, x=values.x.numpy(), y=values.y.numpy())
    path.with_name(path.name + ".sha256").write_text(f"{file_digest(beside, 'sha256')}  {path.name}\n")
    beside.replace(path)


def _from_openml(table: Table, folder: Path) -> Values:
    from sklearn.datasets import fetch_openml

    try:
        # liac-arff: the reader that needs no pandas; nominal columns come as numbers and are named in `categories`.
        bunch = fetch_openml(data_id=table.openml, data_home=str(folder), as_frame=False, parser="liac-arff")
    except ValueError as error:  # an unknown id, or bytes with another md5 than OpenML lists
        raise OSError(f"openml.org, data set {table.openml}: {error}") from error
    source = f"openml.org, data set {table.openml}"
    if str(bunch.details.get("version")) != "1":
        raise UserError(f"{source}: is version {bunch.details.get('version')} now; expected version 1")
    numeric = [place for place, column in enumerate(bunch.feature_names) if column not in bunch.categories]
    x = np.ascontiguousarray(bunch.data[:, numeric], dtype=np.float64)
    values = Values(torch.from_numpy(x), _numbers([str(label) for label in bunch.target], table, source))
    _check(values, table, source)
    return values


def _present(name: str, root: Path) -> bool:
    table = TABLES[name]
    return table.file is None or (root / "tabular" / table.file[0]).is_file() or _npz(name, root).is_file()


def _npz(name: str, root: Path) -> Path:
    return root / "tabular" / f"{name}-openml.npz"


def _missing(name: str, root: Path) -> str:
    table = TABLES[name]
    assert table.file is not None
    return (
        f"data=tabular data.name={name}: is not in {root}{'' if root.is_dir() else ', which does not exist'}.\n"
        f"  missing: tabular/{table.file[0]} (sha256 {table.file[1]}), or tabular/{name}-openml.npz\n"
        f"Put it into {root / 'tabular'}, or say where it is: CREDIT_DATA=<folder> or data.root=<folder>.\n"
        f"To fetch it there from openml.org (data set {table.openml}): "
        f"credit-train data=tabular data.name={name} data.download=true"
    )


TABLES: dict[str, Table] = {
    "iris": Table(
        4, {"setosa": 50, "versicolor": 50, "virginica": 50},
        "f95dedee0b87c2c68cad3b304bc648038f8d3d3a670408281920f0a189e36e84",
    ),
    "wine": Table(
        13, {"class_0": 59, "class_1": 71, "class_2": 48},
        "c9bb09ab98c83006019d3300ad267d2b6bbd9b2877eee182bfadf7c6feb974a3",
    ),
    "blood": Table(
        4, {"1": 570, "2": 178}, "e8f070d45b248208593618685f26fcdc4c587f3d784e53a976365664a13cc422",
        ("blood-transfusion.csv", "1fb5692e25b365d69fa17e5af8c765cb6ba711333d55ea51f1c627d49c3a2746"), 1464,
    ),
    "vehicle": Table(
        18, {"bus": 218, "opel": 212, "saab": 217, "van": 199}, "b8004b868493dfa322e7f5006ced38c3e070356fa6bb1f0cfed64319e65ecb66",
        ("vehicle.csv", "65c4c7921c42e2405f639d93a054948445755eb0431567c865c5c9508423e7f6"), 54,
    ),
    "credit-g": Table(
        7, {"bad": 300, "good": 700}, "018fd02f3389889765d706d4e51298c7d56c25e776cda5483ca07e39a0ff72c9",
        ("credit-g.csv", "d4bf14ea4ef090d4bf84cdb0a379d8f7deb3f8d4da6d1708d6f8836b5381233e"), 31,
    ),
    "segment": Table(
        19, dict.fromkeys(("brickface", "cement", "foliage", "grass", "path", "sky", "window"), 330),
        "09a59f0e7f93afb6448e4d246c5cfab2f4955335be6667f97355b3e591b6b068",
        ("segment.csv", "151d0e182778f7d30118f2e4c80cb7b3837c7bdcd3a500503d4082f06b0b6773"), 36,
    ),
    "phoneme": Table(
        5, {"1": 3818, "2": 1586}, None,
        ("phoneme.csv", "bbc80ad547082913d7110c66f7578547294baba2bc848cca1e222c69cfe9a00c"), 1489,
    ),
    "electricity": Table(
        7, {"DOWN": 26075, "UP": 19237}, "c6d6f4492f99a5395e3588624dd50278327746d302590049aa72b53c10ec3671",
        ("electricity.csv", "fbde06989e7a8df2b7cfe3fb50989b2e50c893d7dd1944ce963425d00651afb5"), 151, ("day",),
    ),
}  # fmt: skip
"""The tables by the name that ``data.name=`` takes. phoneme's CSV is rounded to three decimals and OpenML's table is centred
and scaled, so the two have no digest in common; standardised they should agree to about 0.001."""
