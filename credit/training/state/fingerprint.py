"""What a checkpoint was made of, and whether a run that is about to go on from it is that run.

| part | where it differs |
|---|---|
| the run (its hash), the data, a step beyond the run's end | refused |
| the user's code, this package's code | refused; with ``resume=anyway`` a warning |
| versions of credit and torch, threads, device | a warning with both values |

Warnings are kept in later checkpoints and in result.json (``resumed``), with the step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from credit.core.config.folders import credit_version
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.runs.folder import different_settings
from credit.runs.identity import decisive, run_hash
from credit.runs.made_from import compared, refuse_resumption


def fingerprint(cfg: RunConfig, made_from: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return what a checkpoint keeps of the run, its code and the machine, as plain values."""
    surroundings = {
        "credit": credit_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    return {"run": run_hash(cfg), "decisive": decisive(cfg), "made_from": made_from, "surroundings": surroundings}


def check_checkpoint(
    state: dict[str, Any], now: dict[str, Any], cfg: RunConfig, total_steps: int, path: Path
) -> list[str]:
    """Refuse a checkpoint of another run; return descriptions of what else differs.

    Args:
        state: the checkpoint's content.
        now: the fingerprint of the run that is about to go on from it.
        cfg: that run.
        total_steps: its length.
        path: the checkpoint, or its run's folder, for messages.

    Raises:
        UserError: naming what differs and what to do.
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
        *(f"{key} {before.get(key)} then, {after[key]} now" for key in after if before.get(key) != after[key]),
    ]


def note_differences(run: Any, differences: list[str], warn: Callable[[str], None]) -> None:
    """Warn of differences and keep them in the run's records, with the step at which it goes on."""
    if differences:
        warn(f"going on at step {run.step} with differences: {', '.join(differences)}")
        run.resumed.append({"step": run.step, "differences": differences})
