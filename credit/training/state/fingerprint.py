"""The fingerprint of a checkpoint: its run, code and machine, compared with the run that resumes from it.

| part | if it differs |
|---|---|
| the run (its hash), the data, a step beyond the run's end | refused |
| the user's code, this package's code | refused; with ``resume=anyway`` a warning |
| versions of credit and torch, threads, device, processes | a warning with both values |

Warnings are stored in later checkpoints and in result.json (``resumed``), with the step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from credit.core.config.folders import credit_version
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.core.processes import world_size
from credit.runs.folder import different_settings
from credit.runs.identity import decisive, run_hash
from credit.runs.made_from import compared, refuse_resumption


def fingerprint(cfg: RunConfig, made_from: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the fingerprint of a run as plain values: ``run`` (hash), ``decisive``, ``made_from`` and ``surroundings``.

    Args:
        cfg: the run's configuration.
        made_from: the record of its code and data (`credit.runs.made_from.made_from`).
        device: the run's device.
    """
    surroundings = {
        "credit": credit_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": str(device),
        **({"processes": world_size()} if world_size() > 1 else {}),
    }
    return {"run": run_hash(cfg), "decisive": decisive(cfg), "made_from": made_from, "surroundings": surroundings}


def check_checkpoint(
    state: dict[str, Any], now: dict[str, Any], cfg: RunConfig, total_steps: int, path: Path
) -> list[str]:
    """Refuse a checkpoint of another run, and return descriptions of the permitted differences.

    Args:
        state: the checkpoint's content.
        now: the fingerprint of the run that resumes.
        cfg: the configuration of that run.
        total_steps: the number of steps of that run.
        path: the checkpoint, or its run's folder, for error messages.

    Raises:
        UserError: the run, a step beyond its end, or the code differ; the message names the differences and the remedy.
    """
    then = state.get("fingerprint")
    if then is not None and then["run"] != now["run"]:
        different = different_settings(then["decisive"], now["decisive"])
        raise UserError(
            f"the checkpoint in {path} is of another run ({then['run']}, this one is {now['run']}; different: "
            f"{', '.join(different) or 'how the hash is made'}): remove it to begin anew, or rerun=true"
        )
    if state["step"] > total_steps:
        raise UserError(
            f"the checkpoint in {path} is of step {state['step']}, and this run ends at step {total_steps}: it is of a longer "
            "run. Remove it to go on from the one before it, or to begin anew"
        )
    if then is None:
        return ["the checkpoint is older than records of the code: whether the code changed is not known"]
    found = compared(then["made_from"], now["made_from"])
    refuse_resumption(path, found, cfg.resume)
    before, after = then["surroundings"], now["surroundings"]
    return [
        *found.code,
        *found.package,
        *(
            f"{key} {before.get(key)} then, {after.get(key)} now"
            for key in {**before, **after}
            if before.get(key) != after.get(key)
        ),
    ]


def note_differences(run: Any, differences: list[str], warn: Callable[[str], None]) -> None:
    """Warn of differences, and store them in the run's records with the step at which it resumes.

    Args:
        run: the run, a `credit.training.state.run_state.Training`.
        differences: descriptions as of `check_checkpoint`; with none, nothing is done.
        warn: shows a warning.
    """
    if differences:
        warn(f"going on at step {run.step} with differences: {', '.join(differences)}")
        run.resumed.append({"step": run.step, "differences": differences})
