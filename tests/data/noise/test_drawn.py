"""Noise by a transition matrix: drawn row by row, checked before data are read."""

import numpy as np
import pytest
import torch

from credit.core.config.compose import compose
from credit.core.config.schema import DataConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.noise.drawn import drawn_from
from credit.data.options import MatrixNoise
from credit.runs.identity import is_clean, run_name

T = np.full((10, 10), 0.03) + 0.7 * np.eye(10)
T[3] = np.eye(10)[8]  # class 3 becomes class 8
T[4] = np.eye(10)[4]


def test_each_class_is_drawn_from_its_row():
    probabilities = torch.from_numpy(T)[torch.zeros(100000, dtype=torch.int64)]
    counts = torch.bincount(drawn_from(probabilities, torch.Generator().manual_seed(0)), minlength=10) / 100000
    assert (counts - torch.from_numpy(T[0])).abs().max() < 0.004


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_labels_follow_the_matrix_of_a_file(tmp_path, suffix):
    path = tmp_path / f"T.{suffix}"
    np.save(path, T) if suffix == "npy" else np.savetxt(path, T, delimiter=",", fmt="%.4f")
    noise = MatrixNoise("matrix", path=str(path))
    data = load(DataConfig(), noise, seed=0, device="cpu")
    assert (data.train.y[data.clean_y == 3] == 8).all() and (data.train.y[data.clean_y == 4] == 4).all()
    others = ~torch.isin(data.clean_y, torch.tensor([3, 4]))
    assert 0.2 < data.corrupted[others].float().mean() < 0.34
    assert any(note.startswith("noise=matrix: ") for note in data.notes)
    assert torch.equal(data.train.y, load(DataConfig(), noise, seed=0, device="cpu").train.y)
    assert not torch.equal(data.train.y, load(DataConfig(), noise, seed=1, device="cpu").train.y)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.full((3, 3), 1 / 3), "has shape (3, 3); data=digits has 10 classes, so it must be (10, 10)"),
        (T * 2, "row 0, of class 0, has the sum 2 and"),
        (1.2 * np.eye(10) - 0.02, "the smallest value -0.02"),
        (np.where(np.eye(10) > 0, np.nan, T), "row 0, of class 0, has the sum nan"),
        (np.vstack([np.eye(10)[[1, 0, 0]], np.eye(10)[3:]]).T, "its columns do: transpose it"),
        (np.eye(10), "is the identity, by which no label would be wrong"),
        (np.array(["a", "b"]), "is not a matrix of numbers"),
        (np.array([{}], dtype=object), "is not a matrix of numbers"),
    ],
)
def test_what_is_no_transition_matrix_is_refused_before_loading(tmp_path, matrix, words):
    np.save(tmp_path / "T.npy", matrix, allow_pickle=True)
    with pytest.raises(UserError) as refusal:
        describe(DataConfig(), MatrixNoise("matrix", path=str(tmp_path / "T.npy")))
    assert words in str(refusal.value)


def test_a_matrix_that_is_not_there_is_refused(tmp_path):
    for path, words in (
        (None, "does not say which one: write noise.path=T.npy"),
        ("T.npy", "noise.path=T.npy: there is no file at T.npy or"),
        (str(tmp_path / "T.txt"), "is read from .npy or .csv files, not from '.txt'"),
    ):
        (tmp_path / "T.txt").write_text("1")
        with pytest.raises(UserError) as refusal:
            describe(DataConfig(), MatrixNoise("matrix", path=path))
        assert words in str(refusal.value)


def test_the_content_of_the_matrix_is_part_of_a_runs_name(tmp_path):
    names = []
    for name, matrix in (("a.npy", T), ("b.npy", T), ("c.npy", np.roll(T, 1, 1))):
        np.save(tmp_path / name, matrix)
        cfg = compose(["noise=matrix", f"noise.path={tmp_path / name}"])
        assert not is_clean(cfg.as_dict())
        names.append(run_name(cfg))
    assert names[0] == names[1] != names[2]
