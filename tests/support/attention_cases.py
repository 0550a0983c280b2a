"""Test cases of attention, by row; see ``test_kernels``."""

from typing import Any

import torch
import torch.nn.functional as F
import torchvision.models.swin_transformer as swin
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from tests.support.harness import case

attend = F.scaled_dot_product_attention
LOOKED = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 1]]).bool()
"""A mask of which one query looks nowhere."""


def _heads(x: Tensor) -> Tensor:
    q, k, v = x.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return attend(q, k, v, is_causal=True, scale=0.3).transpose(1, 2).flatten(2)


class Learned(nn.Module):
    """Scores with a learned shift, as relative positions have, and a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(3, 3)), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return attend(x, x * self.scale, x, attn_mask=self.shift)


class Within(nn.Module):
    """nn.MultiheadAttention of one tensor, with its weights in the result."""

    away: Tensor

    def __init__(self, *, average: bool = True, masked: str = "", **options: Any) -> None:
        super().__init__()
        self.inner, self.average, self.masked = nn.MultiheadAttention(6, 2, **options), average, masked
        self.register_buffer("away", torch.ones(3, 3).triu(1).bool())
        self.register_buffer("padding", torch.tensor([[0, 0, 1], [0, 1, 0]]).bool())
        self.register_buffer("numbers", torch.randn(4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        masks = {
            "": {}, "away": {"attn_mask": self.away, "key_padding_mask": self.padding}, "numbers": {"attn_mask": self.numbers},
        }[self.masked]  # fmt: skip
        out, weights = self.inner(x, x, x, average_attn_weights=self.average, **masks)
        return torch.cat([out.flatten() + x.flatten(), weights.flatten()])


class Between(nn.Module):
    """nn.MultiheadAttention of one tensor to another, of another size or not."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, **options)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        of = y if self.inner.kdim == 6 else y[..., :4]
        out: Tensor = self.inner(x, of, of, need_weights=False)[0]
        return out


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(6, 2, 5, batch_first=True, **options)


class Stacked(nn.Module):
    """Two encoder layers that look at the past alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(layer(dropout=0.0), 2, nn.LayerNorm(6), enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(x, mask=self.mask, is_causal=True)
        return out


MODULES: dict[type[nn.Module], list[Any]] = {
    nn.MultiheadAttention: [
        case(Within(batch_first=True), 2, 3, 6, linear=True),
        case(Within(average=False, masked="away", batch_first=True, bias=False), 2, 3, 6, linear=True),
        case(Within(masked="numbers"), 3, 2, 6, linear=True),
        case(Within(), 3, 6, linear=True),
        case(Between(), 3, 2, 6, linear=True, two=True),
        case(Between(batch_first=True, kdim=4, vdim=4), 2, 3, 6, linear=True, two=True),
        case(Between(batch_first=True, bias=False, kdim=4, vdim=4), 2, 3, 6, linear=True, two=True),
    ],
    nn.TransformerEncoderLayer: [
        case(layer(dropout=0.0), 2, 3, 6, linear=True),
        case(layer(dropout=0.0, activation=F.gelu, norm_first=True), 2, 3, 6, linear=True),
        case(layer(dropout=0.0, activation=nn.GELU("tanh"), bias=False), 2, 3, 6, linear=True),
    ],
    nn.TransformerEncoder: [case(Stacked(), 2, 3, 6, linear=True)],
}

FUNCTIONS: dict[Any, list[Any]] = {
    attend: [
        case(_heads, 2, 5, 12, linear=True),
        case(lambda x, y: attend(x, y, x), 2, 3, 4, linear=True, two=True),
        case(lambda x, y: attend(x, y, x, attn_mask=LOOKED), 2, 3, 4, linear=True, two=True),
        case(
            lambda x: attend(x, x, x, torch.randn(3, 3, generator=torch.Generator().manual_seed(1))),
            2,
            3,
            4,
            linear=True,
        ),
        case(Learned(), 2, 3, 4, linear=True),
        case(lambda x: attend(x, x, x, dropout_p=0.4), 2, 3, 4, linear=True),
    ],
}


class Placed(nn.Module):
    """Embeddings of places, made for images of one size and used on another."""

    def __init__(self, size: tuple[int, int], made: tuple[int, int], prefix: int = 0) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, prefix + made[0] * made[1], 4))
        self.size, self.made, self.prefix = size, None if made[0] == made[1] else made, prefix

    def forward(self, x: Tensor) -> Tensor:
        return x + resample_abs_pos_embed(self.places, self.size, self.made, self.prefix)


# A window smaller than the image, with sizes that do not divide it; one as large as it; one without a shift.
WINDOWS = [([2, 3], [1, 1]), ([6, 2], [3, 1]), ([2, 2], [0, 0])]


def _swin(kind: type[swin.ShiftedWindowAttention], **options: float) -> list[Any]:
    return [case(kind(4, size, shift, 2, **options), 2, 5, 4, 4, linear=True) for size, shift in WINDOWS]


_NAMED = "torchvision.models.swin_transformer."
BY_NAME: dict[str, list[Any]] = {
    "timm.layers.pos_embed.resample_abs_pos_embed": [
        case(Placed((2, 3), (3, 3)), 2, 6, 4, linear=True),
        case(Placed((3, 3), (3, 3)), 2, 9, 4, linear=True),
        case(Placed((2, 2), (2, 3), prefix=1), 2, 5, 4, linear=True),
    ],
    f"{_NAMED}_patch_merging_pad": [
        case(swin.PatchMerging(4), 2, 5, 3, 4, linear=True),
        case(swin.PatchMerging(4), 2, 4, 6, 4, linear=True),
    ],
    f"{_NAMED}_get_relative_position_bias": _swin(swin.ShiftedWindowAttention)[:1],
    f"{_NAMED}shifted_window_attention": [
        *_swin(swin.ShiftedWindowAttention, attention_dropout=0.3, dropout=0.2),
        *_swin(swin.ShiftedWindowAttentionV2),
        *_swin(swin.ShiftedWindowAttention, qkv_bias=False, proj_bias=False),
    ],
}
