"""Reading sets: the real ones, a user's own, and what is said when they are missing, corrupt or not what they claim."""

import hashlib
import os
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from credit.core.config.schema import DataConfig, NoiseConfig
from credit.core.errors import UserError
from credit.data import describe, load
from credit.data.sources import catalog
from credit.data.sources.digests import arrays_digest
from credit.data.storage import Images
from tests.support.fakes import arrays, flip_byte, old_pickle, write_npz

REAL = {
    "mnist": ((1, 28, 28), 10, 60000, "five"),
    "fashion_mnist": ((1, 28, 28), 10, 60000, "Ankle boot"),
    "cifar10": ((3, 32, 32), 10, 50000, "frog"),
    "cifar100": ((3, 32, 32), 100, 50000, None),
}


def read(kind, **options):
    return catalog.read(DataConfig(kind=kind, **options))


def refusal(call, *args, **options):
    with pytest.raises(UserError) as error:
        call(*args, **options)
    return str(error.value)


def test_digits_are_scikit_learns_with_a_fixed_stratified_test_set():
    from sklearn.datasets import load_digits

    got, expected = read("digits"), load_digits()
    assert got.storage == Images(top=16) and got.x_train.max() == 16 and got.x_train.dtype == torch.uint8
    assert (len(got.y_train), len(got.y_test)) == (1438, 359)
    ours = torch.cat([got.x_train, got.x_test]).flatten(1).numpy()
    assert sorted(map(bytes, ours)) == sorted(map(bytes, expected.images.reshape(-1, 64).astype(np.uint8)))
    share = torch.bincount(got.y_test) / torch.tensor(np.bincount(expected.target))
    assert (share - 0.2).abs().max() < 0.006
    assert arrays_digest(got.tensors()) == "b1a66c7fba4d3465eb6af53883f166200961c0f77ceb7a2ccc066e17e73e8d07"


@pytest.mark.parametrize("kind", REAL)
def test_real_sets_load_as_published(kind, need_data):
    shape, classes, train, _ = REAL[kind]
    cfg = DataConfig(kind=kind, root=str(need_data(kind)))
    spec = describe(cfg)
    data = load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert spec.shape == data.shape == shape and spec.outputs == data.classes == classes
    assert spec.train_size == len(data.train) == round(0.9 * train) and len(data.test) == 10000
    assert spec.val_size == len(data.val) == round(0.1 * train)
    assert data.train.x.dtype == torch.uint8 and data.train.x.is_contiguous()
    assert torch.equal(
        torch.bincount(data.val.y, minlength=classes) * 10 // (train // classes), torch.ones(classes)
    ) or (kind == "mnist")


@pytest.mark.slow
def test_cifar10_loads_fast(need_data):
    cfg = DataConfig(kind="cifar10", root=str(need_data("cifar10")))
    start = time.process_time()
    load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert time.process_time() - start < 3


def test_cifar10_shows_the_published_mean(need_data):
    cfg = DataConfig(kind="cifar10", root=str(need_data("cifar10")), val_fraction=0.0)
    data = load(cfg, NoiseConfig(), seed=0, device="cpu")
    shift = data.normalizer.shift.flatten() / 255  # type: ignore[union-attr] # standard normalisation has one
    torch.testing.assert_close(shift, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 1), (6, 6, 3), (3, 6, 6)])
def test_npz_sets_of_every_layout(tmp_path, shape, compressed):
    members = arrays(shape=shape)
    path = write_npz(tmp_path / "mine.npz", compressed, **members)
    cfg = DataConfig(kind="npz", path=str(path), batch_size=4)
    spec, got = describe(cfg), read("npz", path=str(path))
    channels = 1 if shape in ((6, 6), (6, 6, 1)) else 3
    assert spec.shape == tuple(got.x_train.shape[1:]) == (channels, 6, 6)
    images = (
        members["x_train"].reshape(40, 6, 6, -1).transpose(0, 3, 1, 2) if shape != (3, 6, 6) else members["x_train"]
    )
    assert np.array_equal(got.x_train.numpy(), images)
    assert spec.outputs == 4 and got.names == ["0", "1", "2", "3"]


def test_a_relative_path_is_also_looked_for_in_the_data_folder(tmp_path, monkeypatch):
    write_npz(tmp_path / "mine.npz")
    monkeypatch.setenv("CREDIT_DATA", str(tmp_path))
    assert describe(DataConfig(kind="npz", path="mine.npz", batch_size=4)).outputs == 4


def test_the_same_images_have_one_digest_in_every_layout(tmp_path):
    last = write_npz(tmp_path / "last.npz")
    first = write_npz(tmp_path / "first.npz", **{k: arrays()[k].transpose(0, 3, 1, 2) for k in ("x_train", "x_test")})
    other = write_npz(tmp_path / "other.npz", y_test=np.zeros(20, dtype=int))
    digests = [arrays_digest(read("npz", path=str(path)).tensors()) for path in (last, first, other)]
    assert digests[0] == digests[1] != digests[2]


def rows(**changes):
    rng = np.random.default_rng(0)
    return {"x_train": rng.normal(5, 3, (40, 7)), "x_test": rng.normal(5, 3, (20, 7)).astype(np.float16), **changes}


def test_npz_sets_of_rows_of_numbers(tmp_path):
    more = {"x_val": rows()["x_test"][:8], "y_val": np.arange(8) % 4}
    path = write_npz(tmp_path / "mine.npz", **rows(), **more)
    cfg = DataConfig(kind="npz", path=str(path), batch_size=4)
    spec, data = describe(cfg), load(cfg, NoiseConfig("symmetric", 0.5), seed=0, device="cpu")
    assert spec.shape == data.shape == (7,) and (spec.train_size, spec.val_size, spec.test_size) == (40, 8, 20)
    assert data.train.x.dtype == data.test.x.dtype == torch.float32
    np.testing.assert_array_equal(data.train.x, rows()["x_train"].astype(np.float32))
    torch.testing.assert_close(data.prepare(data.train.x).mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    assert "data.augment=['flip'] with data=npz: is for images" in refusal(describe, replace(cfg, augment=["flip"]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_rows_with_a_number_that_is_not_finite_are_refused(tmp_path, value):
    members = rows()
    members["x_train"][3, 2] = value
    path = write_npz(tmp_path / "mine.npz", **members)
    assert "row 3 of x_train has a number that is not finite" in refusal(read, "npz", path=str(path))


@pytest.mark.parametrize("kind", ["mnist", "cifar10", "cifar100"])
def test_missing_sets_say_which_files_where_and_how_to_download(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("CREDIT_DATA", str(tmp_path))
    message = refusal(describe, DataConfig(kind=kind))
    for words in (
        *catalog.KNOWN[kind].files,
        f"{kind}.npz",
        str(tmp_path),
        f"credit-train data={kind} data.download=true",
    ):
        assert words in message
    assert "CREDIT_DATA" in message and "data.root" in message
    assert describe(DataConfig(kind=kind, download=True)).test_size == 10000
    assert "which does not exist" in refusal(describe, DataConfig(kind=kind, root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "cifar11"}, "did you mean 'cifar10'"),
        ({"kind": "npz"}, "data.path="),
        ({"kind": "npz", "path": "nothing.npz"}, "there is no file (an .npz with"),
        ({"kind": "image_folder", "path": "nothing"}, "there is no folder (with train/ and val/)"),
        (
            {"kind": "digits", "path": "x"},
            "it is read with data=npz or data=image_folder alone",
        ),
        ({"kind": "digits", "image_size": 8}, "it is read with data=image_folder alone"),
        (
            {"kind": "npz", "path": "x", "download": True},
            "data.download=true would change nothing",
        ),
    ],
)
def test_options_that_do_not_belong_are_refused(options, words):
    assert words in refusal(describe, DataConfig(**options))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"y_train": None}, "has no y_train"),
        ({"x_train": np.zeros((40, 6, 6, 3), np.float32)}, "x_train is float32"),
        ({"x_train": np.zeros((40, 108), np.uint8)}, "x_train has shape (40, 108)"),
        (
            {"x_train": np.zeros((40, 108), np.float32)},
            "x_train are (108,), those of x_test (6, 6, 3); all must have one size",
        ),
        ({"y_train": np.zeros(39, int)}, "40 examples in x_train, 39 in y_train"),
        ({"y_train": np.zeros(40)}, "targets are y_train torch.float32"),
        ({"y_train": -np.ones(40, int)}, "label -1; classes are counted from 0"),
        ({"x_test": np.zeros((20, 5, 6, 3), np.uint8)}, "all must have one size"),
        ({"names": np.array(["a", "b"])}, "label 3, but only 2 names"),
        ({"x_test": np.zeros((0, 6, 6, 3), np.uint8), "y_test": np.zeros(0, int)}, "x_test is empty"),
        ({"y_train": np.array([{}] * 40, dtype=object)}, "y_train cannot be read"),
    ],
)
def test_unfit_npz_sets_are_refused_before_loading(tmp_path, members, words):
    path = write_npz(tmp_path / "mine.npz", **members)
    message = refusal(describe, DataConfig(kind="npz", path=str(path), batch_size=4))
    assert words in message and str(path) in message


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(40) % 4 + 1, "labels go up to 4, but label 0 has no example, .*from 0 without gaps .y - 1, of all"),
        (
            np.arange(40) % 4 * 2,
            r"labels go up to 6, but 3 of the labels, 1 the first, .*np\.unique\(y, return_inverse=True\)",
        ),
        (np.arange(40) % 4 + 2**62, "of the labels, 0 the first, have no example, .*save names=.*classes' names"),
        (np.zeros(40, int), "every label is 0, and a classifier needs two or more classes"),
    ],
)
def test_labels_that_leave_classes_without_examples_are_refused(tmp_path, labels, words):
    path = write_npz(tmp_path / "mine.npz", y_train=labels, y_test=labels[:20])
    with pytest.raises(UserError, match=words):
        describe(DataConfig(kind="npz", path=str(path), batch_size=4))


def test_named_classes_may_be_without_examples_and_a_note_says_so(tmp_path):
    names = np.array(["ant", "bee", "cow", "dog"])
    cfg = DataConfig(kind="npz", path=str(tmp_path / "mine.npz"), batch_size=4)
    write_npz(tmp_path / "mine.npz", y_train=np.arange(40) % 3, names=names)
    assert describe(cfg).outputs == 4
    notes = load(cfg, NoiseConfig(), seed=0, device="cpu").notes
    assert notes == ["no training example of class dog: a network cannot learn it"]
    write_npz(tmp_path / "mine.npz", y_train=np.full(40, 2), names=names)
    with pytest.raises(UserError, match="the training part, 36 examples after limits and splits, is all of class cow"):
        load(cfg, NoiseConfig(), seed=0, device="cpu")


@pytest.mark.parametrize("shape", [(1, 8, 4), (3, 32, 3), (3, 3, 3), (4, 2, 1)])
def test_a_layout_that_the_shape_leaves_open_is_refused_until_the_file_says_it(tmp_path, shape):
    cfg = DataConfig(kind="npz", path=str(tmp_path / "mine.npz"), batch_size=4)
    members = arrays(shape=shape)
    write_npz(tmp_path / "mine.npz", **members)
    message = refusal(describe, cfg)
    assert f"{shape[0]}x{shape[1]} of {shape[2]} channels if channels are last" in message
    assert f"{shape[1]}x{shape[2]} of {shape[0]} if they are first" in message and "save layout='NHWC'" in message
    for layout, expected in (("NCHW", members["x_train"]), ("NHWC", members["x_train"].transpose(0, 3, 1, 2))):
        write_npz(tmp_path / "mine.npz", **members, layout=layout)
        got = catalog.read(cfg)
        assert np.array_equal(got.x_train.numpy(), expected) and describe(cfg).shape == expected.shape[1:]


def test_a_layout_that_cannot_be_is_refused(tmp_path):
    cfg = DataConfig(kind="npz", path=str(write_npz(tmp_path / "mine.npz", layout="NCHW")), batch_size=4)
    assert "layout=NCHW of images of shape (40, 6, 6, 3) has 6 channels" in refusal(describe, cfg)
    write_npz(tmp_path / "mine.npz", layout="HWCN")
    assert "layout is 'HWCN'; write layout='NHWC' (channels last)" in refusal(describe, cfg)


def test_an_npz_may_have_a_validation_part_of_its_own(tmp_path):
    more = {"x_val": arrays(seed=1)["x_test"][:12], "y_val": np.arange(12) % 4}
    cfg = DataConfig(kind="npz", path=str(write_npz(tmp_path / "mine.npz", **more)), batch_size=4)
    spec, data = describe(cfg), load(cfg, NoiseConfig(), seed=0, device="cpu")
    assert (spec.train_size, spec.val_size, spec.test_size) == (40, 12, 20)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 12, 20)
    assert (
        np.array_equal(data.val.x.permute(0, 2, 3, 1).numpy(), more["x_val"])
        and data.val.y.tolist() == [0, 1, 2, 3] * 3
    )
    assert np.array_equal(data.train.x.permute(0, 2, 3, 1).numpy(), arrays()["x_train"])
    assert data.notes == [f"{tmp_path / 'mine.npz'}: x_val, y_val are the validation part"]
    assert "data.val_size=3: the set has a validation part of its own, 12" in refusal(
        describe, replace(cfg, val_size=3)
    )
    assert describe(replace(cfg, test_fraction=0.25)).test_size == 18  # of all 72


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"x_val": np.zeros((4, 6, 6, 3), np.uint8)}, "has no y_val"),
        ({"x_valid": np.zeros((4, 6, 6, 3), np.uint8)}, "x_valid would not be read; the parts of a set are x_train"),
        ({"Y_TEST": np.zeros(4)}, "Y_TEST would not be read"),
    ],
)
def test_parts_that_would_not_be_read_are_refused(tmp_path, members, words):
    path = write_npz(tmp_path / "mine.npz", **members)
    assert words in refusal(describe, DataConfig(kind="npz", path=str(path), batch_size=4))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_bit_names_file_member_and_both_checksums(tmp_path, compressed):
    path = write_npz(tmp_path / "mine.npz", compressed)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x_train.npy")
    flip_byte(path, info.header_offset + 30 + len("x_train.npy") + info.compress_size // 2)
    message = refusal(read, "npz", path=str(path))
    assert "corrupt data" in message and str(path) in message and "x_train.npy" in message
    assert f"expected crc32 {info.CRC:08x}" in message and "found    crc32 " in message


def test_a_truncated_npz_is_named_with_its_size(tmp_path):
    path = write_npz(tmp_path / "mine.npz")
    path.write_bytes(path.read_bytes()[:3000])
    message = refusal(describe, DataConfig(kind="npz", path=str(path)))
    assert str(path) in message and "3000 bytes" in message and "truncated" in message


def test_a_sidecar_digest_is_honoured(tmp_path):
    path = write_npz(tmp_path / "mine.npz")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar = tmp_path / "mine.npz.sha256"
    sidecar.write_text(f"{found}  mine.npz\n")
    read("npz", path=str(path))
    sidecar.write_text(f"{'0' * 64}  mine.npz\n")
    message = refusal(read, "npz", path=str(path))
    assert "0" * 64 in message and found in message and str(path) in message
    sidecar.write_text("hello\n")
    assert "holds no SHA-256 digest" in refusal(read, "npz", path=str(path))


def test_a_named_set_of_another_size_is_refused(tmp_path):
    write_npz(tmp_path / "cifar10.npz")
    message = refusal(describe, DataConfig(kind="cifar10", root=str(tmp_path)))
    assert "(3, 6, 6)" in message and "data=npz data.path=" in message


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """CIFAR-10 in torchvision's layout, six images a batch, with the digests that these files have."""
    rng = np.random.default_rng(0)
    known = catalog.KNOWN["cifar10"]
    files = {}
    for name in known.files:
        content = {"data": rng.integers(0, 256, (6, 3072), dtype=np.uint8), "labels": [0, 1, 2, 3, 4, 9]}
        if name.endswith("meta"):
            content = {"label_names": list(known.names)}
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(old_pickle(content))
        files[name] = "md5:" + hashlib.md5((tmp_path / name).read_bytes()).hexdigest()
    monkeypatch.setitem(catalog.KNOWN, "cifar10", replace(known, files=files))
    return tmp_path


def test_cifar_pickles_are_read_in_order(small_cifar):
    got = read("cifar10", root=str(small_cifar))
    assert got.x_train.shape == (30, 3, 32, 32) and got.x_test.shape == (6, 3, 32, 32)
    assert got.y_train.tolist() == [0, 1, 2, 3, 4, 9] * 5 and got.names[9] == "truck"
    assert torch.equal(got.x_train[:6].flatten(1), torch.from_numpy(np.random.default_rng(0).integers(
        0, 256, (6, 3072), dtype=np.uint8)))  # fmt: skip


class Bomb:
    """Pickles to a call that leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_another_digest_is_never_unpickled(small_cifar):
    path = small_cifar / "cifar-10-batches-py/data_batch_3"
    path.write_bytes(old_pickle({"data": Bomb(small_cifar / "boom")}))
    message = refusal(read, "cifar10", root=str(small_cifar))
    expected = catalog.KNOWN["cifar10"].files["cifar-10-batches-py/data_batch_3"].removeprefix("md5:")
    assert str(path) in message and f"expected md5 {expected}" in message
    assert f"found    md5 {hashlib.md5(path.read_bytes()).hexdigest()}" in message
    assert not (small_cifar / "boom").exists()


def test_code_in_a_pickle_is_refused_even_with_the_right_digest(small_cifar, monkeypatch):
    name = "cifar-10-batches-py/data_batch_3"
    (small_cifar / name).write_bytes(old_pickle({"data": Bomb(small_cifar / "boom")}))
    digest = "md5:" + hashlib.md5((small_cifar / name).read_bytes()).hexdigest()
    monkeypatch.setitem(catalog.KNOWN["cifar10"].files, name, digest)
    assert "which may be code and was not run" in refusal(read, "cifar10", root=str(small_cifar))
    assert not (small_cifar / "boom").exists()


def test_partly_missing_files_are_listed_alone(small_cifar):
    (small_cifar / "cifar-10-batches-py/data_batch_2").unlink()
    message = refusal(describe, DataConfig(kind="cifar10", root=str(small_cifar)))
    assert "missing: cifar-10-batches-py/data_batch_2 (the others are there)" in message


def test_a_corrupt_mnist_file_names_both_digests(need_data, tmp_path):
    raw = need_data("mnist") / "MNIST" / "raw"
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for path in raw.glob("*-ubyte"):
        (tmp_path / "MNIST/raw" / path.name).write_bytes(path.read_bytes())
    flip_byte(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", 100)
    message = refusal(read, "mnist", root=str(tmp_path))
    assert "t10k-labels-idx1-ubyte" in message
    assert "expected sha256 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2" in message
    assert "found    sha256 " in message
