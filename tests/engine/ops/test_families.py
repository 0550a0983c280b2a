"""The smallest members of timm's families, and torchvision's ResNet-18: backprop by plan equals autograd in float64."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from tests.support.harness import assert_equal

# name, image side, options that make the member small, whether it holds an op that only autograd takes
FAST = [
    ("test_resnet", 32, {}, False),
    ("resnext26ts", 32, {}, False),
    ("resnet10t", 32, {}, False),
    ("densenet121", 32, {"growth_rate": 4, "block_config": (2, 2, 2, 2)}, False),
    ("regnetx_002", 32, {}, False),
    ("regnety_002", 32, {}, False),
    ("mobilenetv2_035", 32, {}, False),
    ("test_efficientnet", 32, {}, False),
    ("test_convnext", 64, {}, False),
    ("mixer_s32_224", 64, {"img_size": 64}, False),
    ("test_vit", 32, {"img_size": 32, "patch_size": 8}, True),
]
SLOW = [
    ("resnet18", 64, {}, False),
    ("resnet50", 64, {}, False),
    ("resnext50_32x4d", 64, {}, False),
    ("vgg11", 32, {}, False),
    ("vgg11_bn", 32, {}, False),
    ("densenet121", 64, {}, False),
    ("regnety_016", 64, {}, False),
    ("mobilenetv2_100", 64, {}, False),
    ("efficientnet_b0", 64, {"drop_path_rate": 0.2, "drop_rate": 0.2}, False),
    ("convnext_atto", 64, {"drop_path_rate": 0.1}, False),
    ("convnext_tiny", 64, {}, False),
    ("mixer_s32_224", 224, {}, False),
    ("vit_tiny_patch16_224", 64, {"img_size": 64, "drop_path_rate": 0.1}, True),
    ("deit_tiny_patch16_224", 64, {"img_size": 64}, True),
]


def check(model: nn.Module, side: int, local: bool) -> None:
    model = model.double().train()
    x = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert_equal(model, x, local=local)


def made(name: str, options: dict) -> nn.Module:
    torch.manual_seed(2)
    model: nn.Module = timm.create_model(name, num_classes=5, **options)
    return model


@pytest.mark.parametrize(("name", "side", "options", "local"), FAST, ids=[row[0] for row in FAST])
def test_small_member_equals_autograd(name: str, side: int, options: dict, local: bool) -> None:
    check(made(name, options), side, local)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side", "options", "local"), SLOW, ids=[f"{row[0]}-{row[1]}" for row in SLOW])
def test_published_member_equals_autograd(name: str, side: int, options: dict, local: bool) -> None:
    check(made(name, options), side, local)


def test_small_vgg_equals_autograd() -> None:
    torch.manual_seed(2)
    model = timm.models.vgg.VGG(cfg=[4, "M", 6, "M", 8], num_classes=5, mlp_ratio=0.01, drop_rate=0.3)
    check(model, 32, False)


def test_torchvision_resnet_equals_autograd() -> None:
    torch.manual_seed(2)
    check(torchvision.models.resnet18(num_classes=5), 32, False)
