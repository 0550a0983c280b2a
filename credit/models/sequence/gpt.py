"""A decoder-only transformer for next-token prediction (GPT-2; Radford et al. 2019)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from credit.models.activations import activation as make_activation
from credit.models.checks import tokens
from credit.models.options import GptOptions


class Attention(nn.Module):
    """Causal self-attention over several heads: each position attends to itself and to those before it.

    Args:
        width: features of a position.
        heads: number of heads, which divides the width.
        dropout: probability after the output projection.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return out


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.fc1, self.act, self.fc2 = (
            nn.Linear(width, 4 * width),
            make_activation(activation),
            nn.Linear(4 * width, width),
        )
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.drop(self.fc2(self.act(self.fc1(self.norm2(x)))))
        return out


class Gpt(nn.Module):
    """Embeddings of tokens and positions, blocks, a layer norm and a linear head; maps tokens (B, T) to logits (B, T, V).

    Args:
        context: T, number of positions.
        size: V, number of tokens.
        options: see `credit.models.options.GptOptions`.
    """

    def __init__(self, context: int, size: int, options: GptOptions) -> None:
        super().__init__()
        width = options.width
        self.token = nn.Embedding(size, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.drop = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        blocks = (Block(width, options.heads, options.activation, options.dropout) for _ in range(options.layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, size, bias=False)
        self._initialize(options)

    def _initialize(self, options: GptOptions) -> None:
        """Draw first weights as GPT-2 does: normal, std 0.02, what is added to the residual stream smaller by sqrt(2 layers)."""
        nn.init.normal_(self.position, std=options.init_std)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                added = name.endswith(("attention.out", "fc2"))
                nn.init.normal_(module.weight, std=options.init_std / (math.sqrt(2 * options.layers) if added else 1))
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.blocks(self.drop(self.token(x) + self.position))))
        return out


def gpt(shape: tuple[int, ...], classes: int, options: GptOptions) -> nn.Module:
    """Build a decoder-only transformer with pre-norm blocks and learned positions.

    Parameters: 112 512 with the defaults on 65 tokens in windows of 64.

    Args:
        shape: (T,), tokens of an example.
        classes: number of different tokens.
        options: see `credit.models.options.GptOptions`.

    Raises:
        UserError: the data's examples are no sequences.
    """
    return Gpt(tokens("gpt", shape), classes, options)
