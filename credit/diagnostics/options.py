"""The package's diagnostics, by the names that ``trainer.measure=[...]`` takes. Imports no torch."""

from credit.core.registry import declare

declare(
    "diagnostic",
    {
        "alignment": "credit.diagnostics.alignment:Alignment",
    },
)
