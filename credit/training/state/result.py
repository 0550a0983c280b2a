"""Write result.json: a run's metrics, its configuration and its provenance."""

from pathlib import Path
from typing import Any

import torch

from credit.core.processes import world_size
from credit.core.writing import write_json
from credit.data.statistics import statistics
from credit.runs.identity import group_name, run_name
from credit.runs.metrics import finite_or_null
from credit.runs.outcome import UNCHANGED
from credit.runs.places import RESULT
from credit.runs.provenance import noted_command, provenance
from credit.training.state.run_state import Training, parameters_digest, weights_digest


def write_result(run: Training, folder: Path, status: str, **more: Any) -> dict[str, Any]:
    """Write a run's result.json and return its content.

    Args:
        run: the run at its end.
        folder: the run's folder.
        status, more: see `result_of`.
    """
    result = result_of(run, status, **more)
    write_json(folder / RESULT, result)
    return result


def result_of(run: Training, status: str, **more: Any) -> dict[str, Any]:
    """Return the content of a run's result.json.

    Args:
        run: the run at its end.
        status: ``complete``, ``diverged`` or ``failed``. A run given up by ``trainer.stop_when`` is complete, and ``stopped``
            records the step and the reason.
        more: further entries, for example ``diverged={"step": 12, "where": "conv3"}``.
    """
    chosen, primary = run.best is not None, run.rule.task.primary
    own_threads = torch.get_num_threads() if run.threads.count is None and run.device.type == "cpu" else None
    result = {
        "status": status,
        **more,
        **({"stopped": run.stopped} if run.stopped is not None else {}),
        **({"large_loss": run.large_loss} if run.large_loss is not None else {}),
        "name": run_name(run.cfg),
        "group": group_name(run.cfg),
        # Without a validation part no epoch is chosen: test accuracy must not choose one.
        **primary.entry(),
        "selected_by": f"val_{primary.name}" if chosen else "last",
        "best": run.best if chosen else run.last,
        "last": run.last,
        "evaluated": "averaged weights" if run.average is not None else "trained weights",
        "steps": run.step,
        "steps_per_epoch": run.steps_per_epoch,
        "seconds": run.seconds,
        "seconds_per_epoch": run.seconds / run.step * run.steps_per_epoch if run.step else None,
        "parameters": sum(p.numel() for p in run.model.parameters() if p.requires_grad),
        "notes": [*run.notes, *([UNCHANGED] if run.step and parameters_digest(run.model) == run.untrained else [])],
        **({"world_size": world_size()} if world_size() > 1 else {}),
        "rule_parameters": sum(p.numel() for p in run.rule.parameters()),
        "weights_sha256": weights_digest(run.model),
        "data_digest": run.data.digest,
        "data": run.data.summary() | statistics(run.data),
        "config": run.cfg.as_dict(),
        "resumed": run.resumed,
        "provenance": provenance(
            str(run.device),
            threads=run.threads.why,
            made_from=run.made_from,
            job=noted_command(run_name(run.cfg), own_threads),
        ),
    }
    return dict(finite_or_null(result))
