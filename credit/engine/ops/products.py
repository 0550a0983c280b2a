"""Matrix products: oneDNN's where torch carries it, for float32 on the CPU, torch's own everywhere else.

torch sends float32 matrix products to MKL, which leaves AVX-512 aside on AMD's processors: oneDNN's take half the time there
(784 x 256 weights, batch 128, one thread: 255 us against 521 us). They differ in the last bits alone. Calling oneDNN costs
10 us more, so that small products stay where they are.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Multiplications from which oneDNN's shorter run outweighs its longer call.
LARGE = 2_500_000


@cache
def _carried() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, eager: bool) -> Tensor:
    """Return ``x W^T + b`` over the last dimension of x (..., in); W is (out, in).

    Args:
        x, weight, bias: of one type; any strides.
        eager: neither compiled nor mapped by ``torch.func.vmap``, which oneDNN's product cannot be.
    """
    if (
        eager
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= LARGE
        and x.device.type == "cpu"
        and _carried()
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
    ):
        dense = None if bias is None else bias.contiguous()  # oneDNN does not look at a bias's strides
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, dense, "none", [], "")
        return out
    return F.linear(x, weight, bias)
