"""timm models fitted to the data: stem, image size, channels and weights from a file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from credit.core.errors import UserError
from credit.models import build

CIFAR = (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "conv", "pool"), [("resnet18", "conv1", "maxpool"), ("densenet121", "features.conv0", "features.pool0")]
)
def test_small_stem_keeps_the_resolution(name: str, conv: str, pool: str) -> None:
    model = build({"kind": "timm", "name": name, "stem": "cifar"}, CIFAR, 10, seed=0)
    stem = model.get_submodule(conv)
    assert isinstance(stem, nn.Conv2d)
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(model.get_submodule(pool), nn.Identity)
    assert model.training


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 32)])
def test_a_fixed_image_size_comes_from_the_data(shape: tuple[int, ...]) -> None:
    model = build({"kind": "timm", "name": "test_vit"}, shape, 5, seed=0)
    assert model(torch.zeros(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("classes", [10, 7])
def test_weights_from_a_file_are_loaded_and_a_foreign_head_starts_fresh(classes: int, tmp_path: Path) -> None:
    source = build({"kind": "timm", "name": "test_resnet"}, CIFAR, 10, seed=1).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(source, path)
    arch = {"kind": "timm", "name": "test_resnet", "pretrained": str(path)}
    loaded = build(arch, CIFAR, classes, seed=2).state_dict()
    for key, value in source.items():
        if not key.startswith("fc."):
            assert torch.equal(loaded[key], value), key
    assert loaded["fc.weight"].shape[0] == classes
    if classes == 10:
        assert torch.equal(loaded["fc.weight"], source["fc.weight"])


@pytest.mark.parametrize(
    ("name", "weight"), [("test_vit", "patch_embed.proj.weight"), ("test_convnext", "stem.0.weight")]
)
def test_a_patch_size_cuts_smaller_patches(name: str, weight: str) -> None:
    model = build({"kind": "timm", "name": name, "patch_size": 2}, CIFAR, 5, seed=0)
    assert model.get_parameter(weight).shape[-2:] == (2, 2)
    assert model(torch.zeros(2, *CIFAR)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("test_vit", 5, "arch.patch_size=5 does not divide images of 32x32 pixels into whole patches"),
        ("test_vit", 0, "arch.patch_size=0 is outside"),
        ("resnet10t", 4, "arch.patch_size=4: timm resnet10t takes no size of patches; leave it out"),
        ("gmixer_12_224", 4, "timm gmixer_12_224 takes no size of patches"),  # it cuts them, of a size of its own
    ],
)
def test_a_patch_size_that_cannot_be_is_refused(name: str, size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build({"kind": "timm", "name": name, "patch_size": size}, CIFAR, 5, seed=0)


def test_a_resnets_blocks_may_start_alive() -> None:
    spec = {"kind": "timm", "name": "test_resnet", "stem": "native"}
    nets = (build(spec | {"zero_init_last": zero}, (3, 32, 32), 4, seed=0) for zero in (True, False))
    last = [net.get_parameter("layer1.0.bn2.weight") for net in nets]
    assert not last[0].any() and bool((last[1] == 1).all())
    with pytest.raises(UserError, match="arch.zero_init_last=false: timm test_vit has no such start"):
        build({"kind": "timm", "name": "test_vit", "zero_init_last": False}, (3, 160, 160), 4, seed=0)
