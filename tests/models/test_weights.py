"""Pretrained weights: files of three formats, torchvision's names, heads that start fresh, and what does not fit."""

import functools
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import credit
from credit.core.config.compose import compose
from credit.core.errors import UserError
from credit.data import load
from credit.models import build
from credit.models.weights import read_weights
from credit.runs import run_name
from credit.runs.identity import decisive
from credit.training.prepare import prepare
from credit.training.state.run_state import begin
from tests.support.fakes import arrays, write_npz

CIFAR = (3, 32, 32)
SMALL = {"kind": "vgg16", "norm": "none", "dense": [8, 8]}


def torchvisions(classes: int = 7, hidden: int = 8, side: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Return weights as torchvision names them, with small dense layers."""
    return dict(_drawn(classes, hidden, side, seed))


@functools.cache
def _drawn(classes: int, hidden: int, side: int, seed: int) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    state, channels, at = {}, 3, 0
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            state[f"features.{at}.weight"] = 0.1 * torch.randn(width, channels, 3, 3, generator=source)
            state[f"features.{at}.bias"] = torch.randn(width, generator=source)
            channels = width
        at += 2 if width else 1
    for at, (fan_in, width) in zip(
        (0, 3, 6), ((512 * side * side, hidden), (hidden, hidden), (hidden, classes)), strict=True
    ):
        state[f"classifier.{at}.weight"] = torch.randn(width, fan_in, generator=source)
        state[f"classifier.{at}.bias"] = torch.randn(width, generator=source)
    return state


def test_torchvisions_names_are_those_of_its_network() -> None:
    from torchvision.models import vgg16

    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in vgg16().state_dict().items()}
    names = {name: tuple(value.shape) for name, value in torchvisions().items()}
    assert names.keys() == expected.keys()
    assert all(names[name] == expected[name] for name in names if name.startswith("features."))


@pytest.mark.parametrize("save", [save_file, torch.save], ids=["safetensors", "torch"])
def test_torchvisions_weights_compute_what_torchvision_does(save: Callable[..., Any], tmp_path: Path) -> None:
    from torchvision.models import VGG

    path = tmp_path / ("weights.safetensors" if save is save_file else "weights.pth")
    state = torchvisions()
    save(state, path)
    ours = build(SMALL | {"pretrained": str(path)}, CIFAR, 7, seed=1).eval()
    theirs = VGG(nn.Sequential(), init_weights=False)
    layers: list[nn.Module] = []
    for stage, count in enumerate((2, 2, 3, 3, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(layers_out(layers), (64, 128, 256, 512, 512)[stage], 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    theirs.features, theirs.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1)
    theirs.classifier = nn.Sequential(
        nn.Linear(512, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 7)
    )
    theirs.eval().load_state_dict(state)
    x = torch.randn(2, *CIFAR)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.weights_note == f"arch.pretrained={str(path)!r}: all weights are pretrained, the head's too"


def layers_out(layers: list[nn.Module]) -> int:
    return next((m.out_channels for m in reversed(layers) if isinstance(m, nn.Conv2d)), 3)


def test_a_head_for_other_classes_starts_fresh_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(torchvisions(classes=1000), path)
    fresh = build(SMALL, CIFAR, 5, seed=3).state_dict()
    model = build(SMALL | {"pretrained": str(path)}, CIFAR, 5, seed=3)
    loaded = model.state_dict()
    assert torch.equal(loaded["head.weight"], fresh["head.weight"]) and torch.equal(
        loaded["head.bias"], fresh["head.bias"]
    )
    assert not any(torch.equal(loaded[name], fresh[name]) for name in fresh if not name.startswith("head."))
    assert "the head starts fresh, for 5 classes (the weights' are 1000)" in str(model.weights_note)


def test_the_networks_own_weights_come_back_with_batch_norm(tmp_path: Path) -> None:
    arch = {"kind": "vgg16", "dense": []}
    state = build(arch, CIFAR, 10, seed=1).state_dict()
    save_file(state, tmp_path / "own.safetensors")
    loaded = build(arch | {"pretrained": str(tmp_path / "own.safetensors")}, CIFAR, 10, seed=2).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "arch", "words"),
    [
        ({}, {"dense": [8]}, "the weights are of 16 layers, this network has 15; torchvision's VGG-16 is arch=vgg16"),
        ({}, {"norm": "batch"}, "torchvision's VGG-16 has no batch norm; write arch.norm=none"),
        ({}, {"dense": [8, 9]}, r"'fc2.weight' is \(8, 8\), here \(9, 8\)"),
        ({"features.0.bias": None}, {}, r"1 of its tensors are missing \(conv1_1.bias\)\. Give"),
        ({"features.0.scale": torch.ones(3)}, {}, r"network: 1 of the file's belong to no layer \(conv1_1.scale\)"),
        (
            {"classifier.0.weight": torch.zeros(8, 25088)},
            {},
            "are for images of 224 to 255 pixels, these have 32x32; .*=224",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: dict[str, Tensor | None], arch: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({k: v for k, v in {**torchvisions(), **change}.items() if v is not None}, path)
    with pytest.raises(UserError, match=words):
        build(SMALL | arch | {"pretrained": str(path)}, CIFAR, 7, seed=0)


def test_files_that_hold_more_than_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(
        UserError, match=r"model.pt .* is not a file of tensors alone: it names .*save it again, as tensors alone"
    ):
        build(SMALL | {"pretrained": str(path)}, CIFAR, 7, seed=0)
    for content in ({"epoch": 3}, {0: torch.ones(2)}):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"holds no state dict"):
            build(SMALL | {"pretrained": str(path)}, CIFAR, 7, seed=0)
    torch.save({"epoch": 3, "state_dict": torchvisions()}, path)
    build(SMALL | {"pretrained": str(path)}, CIFAR, 7, seed=0)


def test_without_a_network_the_download_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        UserError, match=r"could not be fetched: no route.*vgg16-397923af.pth where .*arch.pretrained=false"
    ):
        build(SMALL | {"pretrained": True}, CIFAR, 7, seed=0)


def test_timms_vgg_16_gives_its_weights_too(tmp_path: Path) -> None:
    state = torchvisions()
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    for layer, timms in names.items():
        weight = state.pop(f"{layer}.weight")
        state[f"{timms}.weight"] = weight if timms == "head.fc" else weight[:, :, None, None]
        state[f"{timms}.bias"] = state.pop(f"{layer}.bias")
    save_file(state, tmp_path / "timm.safetensors")
    save_file(torchvisions(), tmp_path / "torchvision.safetensors")
    one, other = (
        build(SMALL | {"pretrained": str(tmp_path / f"{name}.safetensors")}, CIFAR, 7, seed=1).state_dict()
        for name in ("timm", "torchvision")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("classes", [10, 7])
def test_a_timm_models_head_is_told_too(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(build({"kind": "timm", "name": "test_resnet"}, CIFAR, 10, seed=1).state_dict(), path)
    model = build({"kind": "timm", "name": "test_resnet", "pretrained": str(path)}, CIFAR, classes, seed=2)
    words = "the head's too" if classes == 10 else "the head starts fresh, for 7 classes (the weights' are 10)"
    assert words in str(model.weights_note)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefixes_of_wrappers_are_left_out_with_a_note(prefix: str, tmp_path: Path) -> None:
    both: dict[str, dict[str, Any]] = {"timm": {"kind": "timm", "name": "test_resnet"}, "vgg": SMALL}
    for name, options in both.items():
        whole = build(options, CIFAR, 10, seed=1).state_dict()
        path = tmp_path / f"{name}.pt"
        torch.save({prefix + key: value for key, value in whole.items()}, path)
        model = build(options | {"pretrained": str(path)}, CIFAR, 10, seed=2)
        assert all(torch.equal(value, whole[key]) for key, value in model.state_dict().items())
        assert f"the prefix {prefix} of all names was left out" in str(model.weights_note)


def test_what_decides_a_run_is_the_files_content(tmp_path: Path) -> None:
    words = ["arch=vgg16", "arch.norm=none", "arch.dense=[8,8]", "data=cifar10"]
    assert "pretrained" not in decisive(compose(words))["arch"]  # as before there was the option
    names = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_file(torchvisions(seed=seed), tmp_path / f"{name}.safetensors")
        names.append(run_name(compose([*words, f"arch.pretrained={tmp_path / name}.safetensors"])))
    assert names[0] == names[1] != names[2] and run_name(compose(words)) not in names
    save_file(torchvisions(seed=1), tmp_path / "a.safetensors")
    assert run_name(compose([*words, f"arch.pretrained={tmp_path}/a.safetensors"])) == names[2]


def test_a_run_tells_of_its_weights(tmp_path: Path) -> None:
    save_file(torchvisions(classes=3), tmp_path / "a.safetensors")
    arch = [f"arch.pretrained={tmp_path}/a.safetensors", "arch=vgg16", "arch.norm=none", "arch.dense=[8,8]"]
    write_npz(tmp_path / "set.npz", **arrays(8, (32, 32, 3), classes=2))
    cfg = compose([*arch, "data=npz", f"data.path={tmp_path}/set.npz", "data.batch_size=2", "trainer.device=cpu"])
    prepared = prepare(cfg)
    run = begin(prepared, load(cfg.data, cfg.noise, seed=0, device="cpu"))
    assert any("the head starts fresh, for 2 classes (the weights' are 3)" in note for note in run.notes)


@pytest.mark.slow
def test_timms_vgg_16_is_traced_with_its_convolutional_head_and_takes_every_composite() -> None:
    model = build({"kind": "timm", "name": "vgg16"}, (3, 64, 64), 20, seed=0)
    for name in ("lfp_epsilon", "lfp_zpm", "lfp_alphabeta", "lfp_epsilon_zpm", "lfp_epsilon_alphabeta"):
        rule = credit.rule(name, model)
        rule.step(torch.randn(2, 3, 64, 64), torch.tensor([3, 7]))
        moved = [p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters() if n.endswith("weight")]
        assert len(moved) == 16 and all(moved), name


SMALL_TIMM = {"kind": "timm", "name": "test_resnet"}
UNUSABLE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "complex": (lambda value: value.to(torch.complex64), "is complex64; give weights of finite real numbers"),
    "floats of 8 bits": (lambda value: value.to(torch.float8_e4m3fn), "is float8_e4m3fn; give weights"),
    "not a number": (lambda value: value * torch.nan, r"has 6 of 6 numbers that are not finite \(nan or infinite\)"),
    "infinite in half": (lambda value: (value * 1e9).half(), "has 6 of 6 numbers that are not finite"),
    "sparse": (lambda value: value.to_sparse(), "is quantised, sparse or without content"),
    "quantised": (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "is quantised, sparse"),
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.filterwarnings("ignore")  # torch's, of how it stores quantised and sparse tensors
def test_tensors_that_are_no_weights_are_named(what: str, tmp_path: Path) -> None:
    change, words = UNUSABLE[what]
    torch.save({"first.weight": torch.ones(2, 3), "last.weight": change(torch.ones(2, 3))}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=f"arch.pretrained='.*model.pth': tensor 'last.weight' {words}"):
        read_weights(str(tmp_path / "model.pth"))


@pytest.mark.parametrize("arch", [SMALL, SMALL_TIMM], ids=["vgg16", "timm"])
def test_halves_are_converted_and_noted_and_bytes_refused(arch: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    state = build(arch, CIFAR, 7, seed=0).state_dict()
    file = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(file, path)
    model = build(arch | {"pretrained": str(path)}, CIFAR, 7, seed=1)
    assert all(torch.equal(value, file[name].to(value.dtype)) for name, value in model.state_dict().items())
    count = sum(value.is_floating_point() for value in state.values())
    assert str(model.weights_note).endswith(f"; {count} tensors were converted from float16 to float32")
    name = next(name for name, value in state.items() if value.dim() == 4)
    torch.save({**state, name: state[name].to(torch.int8)}, path)
    with pytest.raises(
        UserError, match=f"model.pth': tensor '{name}' is int8, and the network's is float32; give the weights"
    ):
        build(arch | {"pretrained": str(path)}, CIFAR, 7, seed=0)


@pytest.mark.parametrize("arch", [SMALL, SMALL_TIMM], ids=["vgg16", "timm"])
def test_an_empty_path_is_refused(arch: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=r"arch\.pretrained= is empty \(from a variable that is not set\?\): write a value"
    ):
        build(arch | {"pretrained": ""}, CIFAR, 7, seed=0)


def test_whatever_bytes_a_file_has_are_refused_in_words(tmp_path: Path) -> None:
    path, source = tmp_path / "model.pt", random.Random(0)
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    contents = [b"", b"hello world\n", *(written[:size] for size in range(1, 60, 3))]
    contents += [source.randbytes(source.randrange(1, 60)) for _ in range(100)]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.pt"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, of a pickle's version
            read_weights(str(path))
