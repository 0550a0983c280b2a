"""Small members of the families of timm and torchvision: backprop by plan, without local autograd, equals autograd in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from tests.support.harness import assert_equal

# name, image side, options that make the member small
FAST: list[tuple[str, int, dict[str, Any]]] = [
    ("test_resnet", 32, {}),
    ("resnext26ts", 32, {}),
    ("resnet10t", 32, {}),
    ("densenet121", 32, {"growth_rate": 4, "block_config": (2, 2, 2, 2)}),
    ("regnetx_002", 32, {}),
    ("regnety_002", 32, {}),
    ("mobilenetv2_035", 32, {}),
    ("mobilenetv3_small_050", 32, {}),
    ("test_efficientnet", 32, {}),
    ("test_nfnet", 32, {}),
    ("test_convnext", 64, {}),
    ("convnextv2_atto", 64, {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}),
    ("mixer_s32_224", 64, {"img_size": 64}),
    ("test_vit", 32, {"img_size": 32, "patch_size": 8}),
    ("test_vit4", 32, {"img_size": 32, "patch_size": 8}),
    ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 2}),
    ("beit_base_patch16_224", 32, {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2}),
    ("swin_tiny_patch4_window7_224", 56, {"img_size": 56, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}),
    ("swinv2_tiny_window8_256", 64, {"img_size": 64, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}),
]
SLOW: list[tuple[str, int, dict[str, Any]]] = [
    ("resnet18", 64, {}),
    ("resnet50", 64, {}),
    ("resnext50_32x4d", 64, {}),
    ("resnetv2_50x1_bit", 32, {}),
    ("vgg11", 32, {}),
    ("vgg11_bn", 32, {}),
    ("densenet121", 64, {}),
    ("regnety_016", 64, {}),
    ("mobilenetv2_100", 64, {}),
    ("efficientnet_b0", 64, {"drop_path_rate": 0.2, "drop_rate": 0.2}),
    ("convnext_atto", 64, {"drop_path_rate": 0.1}),
    ("convnext_tiny", 64, {}),
    ("convnextv2_atto", 64, {}),
    ("mixer_s32_224", 224, {}),
    ("vit_tiny_patch16_224", 64, {"img_size": 64, "drop_path_rate": 0.1}),
    ("deit_tiny_patch16_224", 64, {"img_size": 64}),
    ("eva02_tiny_patch14_224", 28, {"img_size": 28, "depth": 2}),
    ("caformer_s18", 64, {}),
    ("edgenext_xx_small", 64, {}),
    ("levit_128s", 64, {"img_size": 64}),
    ("pit_ti_224", 64, {"img_size": 64}),
    ("pvt_v2_b0", 64, {}),
    ("xcit_nano_12_p16_224", 32, {}),
    ("hrnet_w18_small", 32, {}),
]


def check(model: nn.Module, side: int) -> None:
    model = model.double().train()
    x = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert_equal(model, x)


def made(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(2)
    model: nn.Module = timm.create_model(name, num_classes=5, **options)
    return model


@pytest.mark.parametrize(("name", "side", "options"), FAST, ids=[row[0] for row in FAST])
def test_small_member_equals_autograd(name: str, side: int, options: dict[str, Any]) -> None:
    check(made(name, options), side)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side", "options"), SLOW, ids=[f"{row[0]}-{row[1]}" for row in SLOW])
def test_published_member_equals_autograd(name: str, side: int, options: dict[str, Any]) -> None:
    check(made(name, options), side)


def test_small_vgg_equals_autograd() -> None:
    torch.manual_seed(2)
    model = timm.models.vgg.VGG(cfg=[4, "M", 6, "M", 8], num_classes=5, mlp_ratio=0.01, drop_rate=0.3)
    check(model, 32)


SMALL: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: models.resnet18(num_classes=5),
    "efficientnet": lambda: models.EfficientNet(
        [MBConvConfig(2, 3, 1, 8, 8, 2), MBConvConfig(4, 5, 2, 8, 16, 2)], 0.2, 0.3, num_classes=5
    ),
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 2)], 0.3, num_classes=5),
    "vit": lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, dropout=0.1, num_classes=5),
    "swin": lambda: models.SwinTransformer([4, 4], 12, [2, 2], [2, 2], [3, 3], 2, 0.1, 0.1, 0.3, num_classes=5),
    "swin v2": lambda: models.SwinTransformer(
        [4, 4],
        12,
        [2, 2],
        [2, 2],
        [3, 3],
        2,
        num_classes=5,
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_torchvision_member_equals_autograd(name: str) -> None:
    torch.manual_seed(2)
    check(SMALL[name](), 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "efficientnet_b0", "efficientnet_v2_s"]
)
def test_published_torchvision_member_equals_autograd(name: str) -> None:
    torch.manual_seed(2)
    check(getattr(models, name)(num_classes=5, **({"image_size": 32} if name == "vit_b_16" else {})), 32)
