"""Architectures by name: plain ``nn.Module``s that ``torch.fx`` traces, built from a kind and its options."""

from typing import TYPE_CHECKING

from credit.core.lazy import exports

if TYPE_CHECKING:
    from credit.models.registry import build, kinds

__all__ = ["build", "kinds"]

__getattr__ = exports(__name__, {"build kinds": "registry"})
