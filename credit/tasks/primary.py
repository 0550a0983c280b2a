"""The measure that the best epoch is chosen by, and how it is printed. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Primary:
    """The primary measure of a task.

    Attributes:
        name: its key in a row of metrics, behind ``val_`` or ``test_``.
        label: its name in print.
        higher: whether a larger value is better.
        share: whether it is a share, printed in per cent.
    """

    name: str = "top1"
    label: str = "accuracy"
    higher: bool = True
    share: bool = True

    def better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another; equal ones are not."""
        return value > than if self.higher else value < than

    def number(self, value: float | None, decimals: int = 2) -> str:
        """Return a value in print, ``97.21%`` or ``1.734``; ``-`` without one. `decimals` are those of a percentage."""
        if value is None:
            return "-"
        return f"{value:.{decimals}%}" if self.share else f"{value:.4g}"

    def text(self, value: float | None) -> str:
        """Return a value in print with the name of what is no accuracy: ``97.21%``, or ``loss 1.734``."""
        return self.number(value) if self.share else f"{self.label} {self.number(value)}"

    def on_test(self, row: Mapping[str, Any]) -> str:
        """Return the value on the test part in a row of metrics, in print."""
        return self.number(row.get(f"test_{self.name}"))

    def entry(self) -> dict[str, Any]:
        """Return the entry of result.json: none for the accuracy, which is what a result has otherwise."""
        return {} if self == ACCURACY else {"primary": asdict(self)}


ACCURACY = Primary()


def primary_of(result: Mapping[str, Any]) -> Primary:
    """Return the primary measure of a run, from the content of its result.json."""
    return Primary(**result["primary"]) if "primary" in result else ACCURACY
