"""The commands for a finished run: credit eval, credit predict, credit export."""

import csv
import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import credit
from credit.cli.main import main
from credit.runs import run_folder
from credit.training import train
from tests.support.small_runs import small_config


@pytest.fixture
def run():
    """A finished run: its folder and its result."""
    cfg = small_config("bp", trainer={"epochs": 3})
    result = train(cfg, console=False)
    return run_folder(cfg), result


def printed(capsys, *words: object, code: int = 0) -> str:
    assert main([str(word) for word in words]) == code
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return out.err if code else out.out


@pytest.mark.parametrize("command", ["eval", "predict", "export"])
def test_help(capsys, command):
    assert printed(capsys, command, "--help").startswith(f"usage: credit {command} RUN")


@pytest.mark.parametrize("weights", ["best", "last"])
def test_eval_prints_the_numbers_of_the_result(capsys, run, weights):
    folder, result = run
    out = printed(capsys, "eval", folder.name, "--weights", weights)
    row = result[weights]
    assert f"test  accuracy {row['test_top1']:.2%}  loss {row['test_loss']:.6g}" in out
    assert f"val   accuracy {row['val_top1']:.2%}  loss {row['val_loss']:.6g}" in out


def test_eval_on_other_examples_uses_the_runs_preprocessing(capsys, run, tmp_path):
    folder, result = run
    out = printed(capsys, "eval", folder, "noise=0.4")
    assert f"test  accuracy {result['best']['test_top1']:.2%}" in out and "memorized" in out
    one = printed(capsys, "eval", folder, "data.limit_test=10").split("test  accuracy ")[1].split("%")[0]
    assert float(one) % 10 == 0  # of ten examples
    half = np.zeros((40, 8, 8, 3), np.uint8)
    y = np.arange(40) % 10
    np.savez(tmp_path / "colours.npz", x_train=half, y_train=y, x_test=half, y_test=y)
    words = ["data=npz", f"data.path={tmp_path / 'colours.npz'}"]
    assert (
        "examples of shape (3, 8, 8) with 10 outputs (classification), and the run's network takes (1, 8, 8)"
        in printed(capsys, "eval", folder, *words, code=2)
    )


def test_predict_images_and_arrays(capsys, run, tmp_path):
    from sklearn.datasets import load_digits

    folder, _ = run
    images = load_digits().images[:4].astype(np.uint8)  # 0..16
    np.save(tmp_path / "rows.npy", images)
    np.savez(tmp_path / "rows.npz", x=images[:, :, :, None])
    Image.fromarray((images[2] * 15.9375).astype(np.uint8)).save(tmp_path / "two.png")
    rows = list(
        csv.DictReader(io.StringIO(printed(capsys, "predict", folder, *sorted(tmp_path.glob("*.np*")), "--csv")))
    )
    model = credit.load(folder)
    with torch.no_grad():
        expected = model(model.preprocess(images[:, None])).softmax(1)
    for at, row in enumerate(rows):
        assert int(row["row"]) == at % 4 and row["class"] == model.classes[int(expected[at % 4].argmax())]
        assert float(row["probability"]) == pytest.approx(float(expected[at % 4].max()), abs=1e-4)
    assert len(rows) == 8
    line = printed(capsys, "predict", folder, tmp_path / "two.png").split()
    assert line == [str(tmp_path / "two.png"), rows[2]["class"], rows[2]["probability"]]


def test_export_to_safetensors_and_torch_export(capsys, run, tmp_path):
    folder, _ = run
    model = credit.load(folder)
    path = printed(capsys, "export", folder, "--to", "safetensors").strip()
    assert path == str(folder / "model.safetensors")
    held = load_file(path)
    assert all(torch.equal(held[name], value) for name, value in model.network.state_dict().items())
    path = printed(capsys, "export", folder, "--to", "torch_export", "--out", tmp_path / "net.pt2").strip()
    more = {"credit": ""}
    program = torch.export.load(path, extra_files=more)
    x = torch.randn(7, 1, 8, 8)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)
    record = json.loads(more["credit"])
    assert record["names"] == model.classes and record["preprocessing"]["kind"] == "pixelwise"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.pt2", "runs"]  # no half-written file


@pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="onnx is not installed")
def test_export_to_onnx(capsys, run, tmp_path):
    import onnxruntime

    folder, _ = run
    model = credit.load(folder)
    path = printed(capsys, "export", folder, "--to", "onnx", "--out", tmp_path / "net.onnx").splitlines()[-1]
    x = torch.randn(6, 1, 8, 8)
    found = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(find_spec("onnx") is not None, reason="onnx is installed")
def test_onnx_is_refused_without_its_packages(capsys, run):
    assert "pip install onnx onnxscript onnxruntime" in printed(capsys, "export", run[0], "--to", "onnx", code=2)


def test_a_rule_that_settles_is_exported_as_weights_alone(capsys):
    cfg = small_config("eqprop", trainer={"epochs": 1}, data={"limit_train": 100})
    result = train(cfg, console=False)
    folder = run_folder(cfg)
    assert f"accuracy {result['best']['test_top1']:.2%}" in printed(capsys, "eval", folder)
    assert "rule=eqprop is evaluated by settling" in printed(capsys, "export", folder, "--to", "torch_export", code=2)
    assert printed(capsys, "export", folder, "--to", "safetensors").strip().endswith("model.safetensors")
    assert not list(folder.glob("*.pt2"))


def test_bad_input(capsys, run, tmp_path):
    folder, _ = run
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "wide.npy", np.zeros((2, 9, 9)))
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    for words, expected in [
        (["eval", "nothing"], "no run of this name"),
        (["eval"], "no run is given"),
        (["eval", tmp_path], "it has no config.json"),
        (["eval", folder, "--weights", "first"], "valid: best, last"),
        (["eval", folder, "rule=bp"], "takes one run and settings of data and noise"),
        (["eval", folder, "data.normalize=gcn"], "uses the run's own preprocessing"),
        (["eval", folder, "--csvs"], "unknown flag '--csvs'"),
        (["predict", folder], "no file is given"),
        (["predict", folder, tmp_path / "none.png"], "there is no such file"),
        (["predict", folder, tmp_path / "text.npy"], "not an array of numbers"),
        (["predict", folder, tmp_path / "wide.npy"], "the run's are (1, 8, 8)"),
        (["predict", folder, tmp_path / "two.npz"], "which one? Save the examples as x"),
        (["predict", folder, folder / "result.json"], "is not a readable image"),
        (["export", folder], "--to"),
        (["export", folder, "--to", "onyx"], "did you mean 'onnx'"),
        (["export", folder, "--to", "safetensors", "--out", tmp_path / "a.bin"], "as *.safetensors"),
        (["export", folder, "--to", "safetensors", "--device", "cuda:9"], "no such device"),
    ]:
        assert expected in printed(capsys, *words, code=2), words
