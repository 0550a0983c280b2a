"""Records of runs: identity, folder, metrics, result, terminal, W&B mirror. Imports no torch."""

from credit.records.folder import is_complete, read_result, run_folder
from credit.records.identity import group_name, run_name
from credit.records.metrics import read_metrics
from credit.records.outcome import finished, headline
from credit.records.summary import summarise, summary_table

__all__ = [
    "finished",
    "group_name",
    "headline",
    "is_complete",
    "read_metrics",
    "read_result",
    "run_folder",
    "run_name",
    "summarise",
    "summary_table",
]
