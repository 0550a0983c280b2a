"""Architectures by name: plain ``nn.Module``s that ``torch.fx`` traces, built from a kind and its options."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from credit.models.registry import build, kinds, options

__all__ = ["build", "kinds", "options"]


def __getattr__(name: str) -> Any:
    """Import what the package exports on first use, so that the options are read without torch."""
    if name in __all__:
        from credit.models import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
