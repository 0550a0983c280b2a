"""Architectures by name: plain ``nn.Module``s that ``torch.fx`` traces, built from a kind and its options."""

from credit.models.registry import build, kinds, options

__all__ = ["build", "kinds", "options"]
