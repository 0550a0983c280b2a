"""Records of runs: name, folder, metrics, result, terminal output and W&B mirror. Imports no torch."""

from credit.runs.folder import is_complete, read_result, run_folder
from credit.runs.identity import group_name, run_name
from credit.runs.metrics import read_metrics
from credit.runs.outcome import finished, headline
from credit.runs.summary import summarise, summary_table

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
